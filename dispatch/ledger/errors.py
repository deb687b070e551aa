"""Refusals of the ledger."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class InsufficientBalance(DispatchError):
    """There is not so much. `details`: requested_amount, current_balance, minimum_balance, all in minor units."""

    code = ErrorCode.INSUFFICIENT_BALANCE

    def __init__(self, message: str = "", *, requested: int | None = None, available: int | None = None) -> None:
        known = {} if requested is None else {"requested_amount": requested, "current_balance": available}
        super().__init__(message, **known, minimum_balance=0)


class AlreadyReversed(DispatchError):
    """A transaction is reversed once."""

    code = ErrorCode.ALREADY_REVERSED


class DebtLimit(DispatchError):
    """A cash job's fee would be more than the wallet holds and its owner may still owe."""

    code = ErrorCode.DEBT_LIMIT


class BadLeg(DispatchError):
    """A bug of ours: a posting that cannot be."""

    code = ErrorCode.LEDGER_BAD_LEG
