"""Connections that have asked nothing yet. Headers that drip a byte at a time must not hold a place for ever."""

from collections.abc import Sequence
from typing import Final

from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from dispatch.kit.clock import Clock

FIRST_REQUEST_WITHIN_S: Final = 8.0
SWEEP_EVERY_S: Final = 1.0
"""Noticed within one sweep and cut by another: nobody has more than 10 s for the headers of his first request."""
NEXT_REQUEST_WITHIN_S: Final = 75.0
"""From one answer to the headers of the next request, idle or dripping. Longer than proxies keep an idle connection (60 s), so
that they are the ones to close it."""


class Strangers:
    """One per worker. aiohttp bounds the wait for a next request, and gives the first the same time; this bounds the first."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._asked: set[RequestHandler] = set()
        self._since: dict[RequestHandler, float] = {}

    def asks(self, request: web.Request) -> None:
        """The headers of a request are here: its connection is no stranger's."""
        self._asked.add(request.protocol)

    def sweep(self, connections: Sequence[RequestHandler]) -> None:
        """Cut who has been silent, or slow, for too long. `connections` are all of the server's."""
        now = self._clock.monotonic()
        self._asked.intersection_update(connections)
        self._since = {one: self._since.get(one, now) for one in connections if one not in self._asked}
        for one, since in self._since.items():
            if now - since >= FIRST_REQUEST_WITHIN_S:
                one.force_close()
