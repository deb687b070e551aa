"""Typed calls: what admins do."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.http import Http


class OfficeCalls:
    """The calls of one `Http`, as its attribute `office`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call
