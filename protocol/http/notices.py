"""Typed calls: the notification centre and push devices."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.http import Http


class NoticeCalls:
    """The calls of one `Http`, as its attribute `notices`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call
