"""Typed calls: documents and vehicles."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.http import Http


class PaperCalls:
    """The calls of one `Http`, as its attribute `papers`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call
