"""Typed calls: support tickets."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.http import Http


class SupportCalls:
    """The calls of one `Http`, as its attribute `support`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call
