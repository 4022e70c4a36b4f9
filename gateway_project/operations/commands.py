"""What the commands for operators share: an interruption cleans up, and a failed program is one line."""

from __future__ import annotations

import signal
import sys
from types import FrameType
from typing import Any

from django.core.management.base import CommandError

from gateway_project.operations.programs import Failed
from keys.commands import GatewayCommand


def stop(number: int, frame: FrameType | None) -> None:
    """Let every block clean up after itself."""
    raise KeyboardInterrupt


class OperatorsCommand(GatewayCommand):
    """Exit codes: 0, done; 1, it failed or something is wrong; 2, bad input, nothing was changed; 130, interrupted."""

    def execute(self, *args: Any, **options: Any) -> str | None:
        signal.signal(signal.SIGTERM, stop)
        try:
            return super().execute(*args, **options)
        except Failed as error:
            raise CommandError(str(error), returncode=1) from None
        except KeyboardInterrupt:
            self.say("Interrupted: nothing is left half done.")
            sys.exit(130)
