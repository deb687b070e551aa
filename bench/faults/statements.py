"""Just enough of both stores' protocols to know where a statement begins, what it does and when its answer is complete."""

import struct
from collections.abc import Iterator

import hiredis

SSL_REQUEST, CANCEL_REQUEST = 80877103, 80877102
REDIS_HANDSHAKE = (b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"PING")  # what a client says by itself
READY_FOR_QUERY = b"Z\x00\x00\x00\x05"


class PostgresRequests:
    """Client bytes → (message, SQL that it executes or None)."""

    def __init__(self) -> None:
        self._buffer = b""
        self._started = False
        self._statements: dict[bytes, bytes] = {}

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        self._buffer += data
        while True:
            skip = 1 if self._started else 0  # the first messages of a connection have no type byte
            if len(self._buffer) < skip + 4:
                return
            end = skip + struct.unpack_from(">I", self._buffer, skip)[0]
            if len(self._buffer) < end:
                return
            message, self._buffer = self._buffer[:end], self._buffer[end:]
            yield message, self._executed(message)

    def _executed(self, message: bytes) -> bytes | None:
        if not self._started:
            code = struct.unpack_from(">I", message, 4)[0]
            self._started = code not in {SSL_REQUEST, CANCEL_REQUEST}
            return None
        kind = message[:1]
        if kind == b"B":
            return self._statements.get(message[5:].split(b"\0", 2)[1], b"")
        if kind == b"P":
            name, sql, _ = message[5:].split(b"\0", 2)
            self._statements[name] = sql
        elif kind == b"Q":
            return message[5:].rstrip(b"\0")
        return None


class PostgresReplies:
    """Server bytes from one request on → whether its answer is complete (ReadyForQuery was seen)."""

    def __init__(self) -> None:
        self._buffer = b""

    def complete(self, data: bytes) -> bool:
        self._buffer += data
        while len(self._buffer) >= 5:
            end = 1 + struct.unpack_from(">I", self._buffer, 1)[0]
            if len(self._buffer) < end:
                return False
            if self._buffer[:1] == b"Z":
                return True
            self._buffer = self._buffer[end:]
        return False


class RedisRequests:
    """Client bytes → (command, its words or None for the client's own handshake)."""

    def __init__(self) -> None:
        self._buffer = b""

    def feed(self, data: bytes) -> Iterator[tuple[bytes, bytes | None]]:
        self._buffer += data
        while (end := self._end()) is not None:
            command, self._buffer = self._buffer[:end], self._buffer[end:]
            words = command.split(b"\r\n")[2::2]
            yield command, None if words and words[0].upper() in REDIS_HANDSHAKE else b" ".join(words)

    def _end(self) -> int | None:
        """Where the first command of the buffer ends; None while it is not whole. Commands are arrays of strings."""
        at = self._buffer.find(b"\r\n")
        if at < 0:
            return None
        end = at + 2
        for _ in range(int(self._buffer[1:at])):
            at = self._buffer.find(b"\r\n", end)
            if at < 0:
                return None
            end = at + 2 + int(self._buffer[end + 1 : at]) + 2
            if len(self._buffer) < end:
                return None
        return end


class RedisReplies:
    """Server bytes from one command on → whether its answer is complete. Pushed messages are no answers."""

    def __init__(self) -> None:
        self._reader = hiredis.Reader()

    def complete(self, data: bytes) -> bool:
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not False:
            if not isinstance(reply, hiredis.PushNotification):
                return True
        return False
