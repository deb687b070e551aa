"""Failures of wallets, with their wire codes."""

from dispatch.kit.errors import DispatchError
from protocol.errors import ErrorCode


class AmountTooSmall(DispatchError):
    """Less than the smallest withdrawal. `details`: requested_amount, minimum_amount, in minor units."""

    code = ErrorCode.INSUFFICIENT_AMOUNT


class BankAccountMissing(DispatchError):
    """There is no such bank account, or none that the caller may know of."""

    code = ErrorCode.BANK_ACCOUNT_NOT_FOUND


class BankAccountUnverified(DispatchError):
    """The paper of this bank account is not approved now."""

    code = ErrorCode.BANK_ACCOUNT_NOT_VERIFIED
