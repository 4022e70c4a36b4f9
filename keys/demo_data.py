"""Demo data: the mark of a deployment that `manage.py generate_usage` has filled.

The mark is a row that stays for good. Triggers (keys/migrations/0023_demo_data.py) refuse its removal, and refuse
secrets of providers where it is, so that demo data and real money are never in one deployment.
"""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.db.models.functions import Now

from keys.errors import Unusable

# The header of answers of a deployment with demo data, and its value; how names of files begin.
HEADER, VALUE = "Bursar-Data", "demo"
FILE_PREFIX = "demo-data-"
NO_SECRETS = (
    "this deployment has demo data, so it takes no provider's secret or key: set up another one, with a database "
    "of its own, for real calls"
)


class DemoData(models.Model):
    """The mark, of which there is at most one.

    Attributes:
        options: what the data was made with, and the first id of each kind of row.
        parts: how many parts of it are made.
    """

    id = models.SmallIntegerField(primary_key=True, default=1, db_default=1)
    options = models.JSONField()
    parts = models.IntegerField(default=0, db_default=0)
    made_at = models.DateTimeField(db_default=Now())
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = verbose_name_plural = "demo data"
        default_permissions: ClassVar[tuple[str, ...]] = ()
        constraints: ClassVar[list[Any]] = [
            models.CheckConstraint(condition=models.Q(id=1), name="keys_demodata_once"),
        ]

    def __str__(self) -> str:
        return f"demo data of {self.made_at:%Y-%m-%d %H:%M} UTC"


def is_demo() -> bool:
    """Whether this deployment has demo data. One query for at most one row."""
    return DemoData.objects.exists()


def check_real() -> None:
    """Refuse what only a deployment with real calls may have: a provider's secret, or keys that are passed through.

    Raises:
        Unusable: this one has demo data.
    """
    if is_demo():
        raise Unusable(NO_SECRETS)
