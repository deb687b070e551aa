"""Socket mechanics: handshake, frames in and out, bounds, pings. Knows the protocol and nothing of dispatch."""

from dispatch.gateway.connection import SWEEP_EVERY_S, Connection
from dispatch.gateway.door import Door, Identity, SocketRules

__all__ = ["SWEEP_EVERY_S", "Connection", "Door", "Identity", "SocketRules"]
