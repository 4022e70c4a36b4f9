"""The deployment's own names for models."""

from __future__ import annotations

from typing import ClassVar

from django.core.exceptions import ValidationError
from django.db import models
from django.db.models.functions import Now

from keys import patterns
from keys.model_names import fold


class ModelAlias(models.Model):
    """The deployment's own name for a provider's model, like `fast` for `anthropic/claude-haiku-4-5`."""

    name = models.CharField(max_length=200, unique=True, validators=[patterns.check_name])
    target = models.CharField(
        max_length=200,
        validators=[patterns.check_name],
        help_text="What it stands for: a model, or provider/model (anthropic/claude-haiku-4-5).",
    )
    created_at = models.DateTimeField(db_default=Now(), editable=False)

    class Meta:
        ordering: ClassVar = ["name"]
        verbose_name_plural = "model aliases"

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        """Refuse aliases of aliases, and aliases that differ only in case.

        With either, a list of allowed models could mean more than one model.
        """
        others = list(ModelAlias.objects.exclude(pk=self.pk))
        names = {fold(other.name): other.name for other in others}
        if names.get(fold(self.name), self.name) != self.name:
            raise ValidationError(
                {"name": f"“{names[fold(self.name)]}” exists, and case makes no difference: choose another name."}
            )
        if fold(self.target) in {*names, fold(self.name)}:
            raise ValidationError({"target": f"“{self.target}” is an alias itself: name the model that it stands for."})
        if fold(self.name) in {fold(other.target) for other in others}:
            raise ValidationError(
                {"name": f"Another alias stands for “{self.name}”, which can't be an alias then: choose another name."}
            )
