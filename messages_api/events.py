"""The events that the gateway adds to a provider's stream."""

from __future__ import annotations

PING = b'event: ping\ndata: {"type": "ping"}\n\n'
STOP = b'event: message_stop\ndata: {"type": "message_stop"}\n\n'
