"""Who pays: customers, and the teams within them."""

from __future__ import annotations

import zoneinfo
from typing import ClassVar

from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models.functions import Now

from keys.models.answer_bounds import AnswerBounds


def check_time_zone(name: str) -> None:
    """Refuse anything but a place's time zone and UTC. PostgreSQL reads CET and the like as a fixed offset all year.

    Raises:
        ValidationError: with a sentence for the person who typed it.
    """
    if name not in zoneinfo.available_timezones() or ("/" not in name and name != "UTC"):
        raise ValidationError(
            "“%(name)s” is not the IANA time zone of a place, such as Europe/Berlin", params={"name": name}
        )


class Language(models.TextChoices):
    """The languages of refusals by budgets and limits (messages_api/locale)."""

    ENGLISH = "en", "English"
    GERMAN = "de", "Deutsch"
    FRENCH = "fr", "Français"
    SPANISH = "es", "Español"
    ITALIAN = "it", "Italiano"
    PORTUGUESE = "pt", "Português"
    DUTCH = "nl", "Nederlands"
    POLISH = "pl", "Polski"
    JAPANESE = "ja", "日本語"
    CHINESE = "zh-hans", "简体中文"


class Customer(models.Model):
    """A company or cost centre that is billed."""

    name = models.CharField(max_length=200, unique=True)
    paused = models.BooleanField(default=False, help_text="Refuse the calls of every key of this customer.")
    time_zone = models.CharField(
        max_length=60,
        default="UTC",
        db_default="UTC",
        validators=[check_time_zone],
        help_text="IANA name (Europe/Berlin): days, months and years of its budgets begin there.",
    )
    fiscal_year_month = models.PositiveSmallIntegerField(
        default=1,
        db_default=1,
        validators=[MinValueValidator(1), MaxValueValidator(12)],
        help_text="First month of its fiscal year, 1 to 12; quarters begin with it.",
    )
    language = models.CharField(
        max_length=10,
        choices=Language,
        default=Language.ENGLISH,
        db_default=Language.ENGLISH,
        help_text="Language in which a refusal by a budget or limit gives its reason.",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["name"]

    def __str__(self) -> str:
        return self.name


class TeamManager(models.Manager["Team"]):
    """Loads each team with its customer, because a team's name is shown after its customer's."""

    def get_queryset(self) -> models.QuerySet[Team]:
        return super().get_queryset().select_related("customer")


class Team(AnswerBounds):
    """A group within a customer that shares virtual keys.

    Two customers may have teams of the same name. So people see `Customer / Team`, and programs use the name.
    """

    customer = models.ForeignKey(Customer, on_delete=models.PROTECT, related_name="teams")
    name = models.CharField(max_length=200)
    paused = models.BooleanField(default=False, help_text="Refuse the calls of every key of this team.")
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    objects = TeamManager()

    class Meta:
        ordering: ClassVar = ["customer__name", "name"]
        constraints: ClassVar = [models.UniqueConstraint(fields=["customer", "name"], name="keys_team_name")]

    def __str__(self) -> str:
        return f"{self.customer} / {self.name}"
