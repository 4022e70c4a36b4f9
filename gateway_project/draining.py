"""Whether this web process is about to stop.

It first says so, for DRAIN_NOTICE seconds: `/health/ready` fails, and each answer closes its connection. Meanwhile it
accepts calls as before, because a load balancer needs some seconds to notice.
"""

from __future__ import annotations

# Whether this process is about to stop. It is read for each answer.
begun = False


def begin() -> None:
    """From now on, this process is about to stop."""
    global begun
    begun = True
