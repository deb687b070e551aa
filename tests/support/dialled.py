"""A bare TCP line that has said hello and reads nothing: for what becomes of a socket when its phone does not behave."""

import json
import socket

from tests.support.server import Person, Server


def dialled(server: Server, person: Person) -> socket.socket:
    """A line that has said hello."""
    line = socket.create_connection(("127.0.0.1", server.ports[0]))
    line.sendall(
        b"GET /v1/socket HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Protocol: dispatch.v1\r\nAuthorization: Bearer " + person.token.encode() + b"\r\n\r\n"
    )
    hello = json.dumps({"type": "hello", "device": "d", "attempt": 1}).encode()
    line.sendall(bytes((0x81, 0x80 | len(hello))) + bytes(4) + hello)  # masked with zeros
    return line
