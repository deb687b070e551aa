"""Socket mechanics: handshake, frames in and out, bounds, pings. Knows the protocol and nothing of dispatch."""

from dispatch.gateway.connection import Connection
from dispatch.gateway.door import Door, Identity, SocketRules

__all__ = ["Connection", "Door", "Identity", "SocketRules"]
