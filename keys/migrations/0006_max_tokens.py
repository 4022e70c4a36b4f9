"""How long the answers of a key, or of a team's keys, may be."""

from __future__ import annotations

from typing import ClassVar

import django.core.validators
from django.db import migrations, models

FORWARD = """
CREATE FUNCTION keys_touch_keys_of_team() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE keys_virtualkey SET revision = revision WHERE team_id = NEW.id;
    RETURN NULL;
END $$;
CREATE TRIGGER keys_team_revision AFTER UPDATE ON keys_team FOR EACH ROW
    WHEN ((OLD.max_tokens, OLD.default_max_tokens) IS DISTINCT FROM (NEW.max_tokens, NEW.default_max_tokens))
    EXECUTE FUNCTION keys_touch_keys_of_team();
"""

BACKWARD = """
DROP TRIGGER keys_team_revision ON keys_team;
DROP FUNCTION keys_touch_keys_of_team;
"""


def some_tokens(name: str, help_text: str) -> models.PositiveIntegerField[int | None, int | None]:
    bounds = [django.core.validators.MinValueValidator(1), django.core.validators.MaxValueValidator(10_000_000)]
    return models.PositiveIntegerField(name, null=True, blank=True, validators=bounds, help_text=help_text)


FIELDS = {
    "max_tokens": some_tokens(
        "ceiling for max_tokens", "A request that asks for more is refused. The lowest one counts."
    ),
    "default_max_tokens": some_tokens(
        "default for max_tokens", "For requests that name none. The key's own goes before its team's."
    ),
}


class Migration(migrations.Migration):
    dependencies: ClassVar = [("keys", "0005_calendars")]
    operations: ClassVar = [
        *(
            migrations.AddField(model, name, field)
            for model in ("team", "virtualkey")
            for name, field in FIELDS.items()
        ),
        migrations.RunSQL(FORWARD, BACKWARD),
    ]
