"""Typed calls: signing up and in, verification, sessions."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from protocol.http import Http


class AccountCalls:
    """The calls of one `Http`, as its attribute `account`."""

    def __init__(self, http: "Http") -> None:
        self._call = http.call
