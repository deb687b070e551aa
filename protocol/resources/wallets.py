"""HTTP bodies of wallets, bank accounts and withdrawals. The rules of `protocol.resources` hold here; amounts are minor units of `currency`."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

from protocol.frames import At, Count, Reason
from protocol.resources import Currency, Minor
from protocol.resources.money import Amount, Wallet

BankCode = Annotated[str, Meta(pattern=r"^[A-Z0-9]{2,11}(?!\n)$", description="the bank's short name or number")]
AccountNumber = Annotated[str, Meta(pattern=r"^[A-Z0-9]{6,34}(?!\n)$", description="without blanks and dashes")]
AccountName = Annotated[str, Meta(min_length=1, max_length=100, pattern=r"\S")]
TransactionId = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"\S")]
LastFour = Annotated[str, Meta(pattern=r"^[A-Z0-9]{4}(?!\n)$")]


class WithdrawalStatus(StrEnum):
    """pending → processing → completed or failed; pending → rejected. What fails or is rejected is in the wallet again."""

    PENDING = "pending"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    REJECTED = "rejected"


class WithdrawalAction(StrEnum):
    """What an admin does. `complete` and `fail` are for payouts by hand, and for those that no gateway decides."""

    PROCESS = "process"
    REJECT = "reject"
    COMPLETE = "complete"
    FAIL = "fail"


class PaidBy(StrEnum):
    """`folder`: a file counts as paid, as on a laptop; `manual`: people."""

    GATEWAY = "gateway"
    FOLDER = "folder"
    MANUAL = "manual"


class WalletPage(Wallet, frozen=True, kw_only=True):
    """`currencies`: those that the caller has a wallet in."""

    currencies: list[Currency]


class WalletEntry(Struct, frozen=True, omit_defaults=True):
    """One change of the own wallet. `kind` is what it was for, `ref` the thing it was about, such as job:<id>."""

    at: At
    kind: str
    amount_minor: Amount
    balance_before_minor: Minor
    balance_after_minor: Minor
    ref: str | None = None


class BankAccountRequest(Struct, frozen=True, forbid_unknown_fields=True):
    """`document_id`: an own document of type bank_account that still waits for its review and shows this number."""

    bank_code: BankCode
    account_number: AccountNumber
    account_name: AccountName
    document_id: UUID


class BankAccount(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """`verified`: its document is approved now, so money may go there."""

    id: UUID
    bank_code: BankCode
    last_four: LastFour
    account_name: str
    document_id: UUID
    verified: bool
    created_at: At
    removed_at: At | None = None


class BankAccountFile(BankAccount, frozen=True, omit_defaults=True, kw_only=True):
    """The same for the office, with the whole number; without it where no key of the server opens it."""

    account_number: AccountNumber | None = None


class BankAccounts(Struct, frozen=True):
    """Newest first, 100 at most."""

    items: list[BankAccount]


class BankAccountFiles(Struct, frozen=True):
    """Newest first, 100 at most, removed ones too."""

    items: list[BankAccountFile]


class WithdrawalRequest(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Without `currency`: that of the wallet which is shown first."""

    amount_minor: Annotated[int, Meta(ge=1, le=2**53)]
    bank_account_id: UUID
    currency: Currency | None = None


class Withdrawal(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """The amount is held from `requested_at` to `processed_at`, and then paid out or back in the wallet. `reason`: why it failed or was rejected."""

    id: UUID
    status: WithdrawalStatus
    amount_minor: Minor
    currency: Currency
    bank_account_id: UUID
    bank_code: BankCode
    last_four: LastFour
    requested_at: At
    estimated_completion_at: At
    processing_at: At | None = None
    processed_at: At | None = None
    transaction_id: str | None = None
    reason: str | None = None


class WithdrawalRequested(Withdrawal, frozen=True, omit_defaults=True, kw_only=True):
    """`withdrawal_id` is its `id`."""

    withdrawal_id: UUID


class WithdrawalMove(Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """`reason` with reject and fail, `transaction_id` of the bank with complete."""

    action: WithdrawalAction
    reason: Reason | None = None
    transaction_id: TransactionId | None = None


class WithdrawalFile(Struct, frozen=True, omit_defaults=True, kw_only=True):
    """A withdrawal for the office. `stuck`: processing for more than 30 minutes. `account_number` only where one is read."""

    withdrawal: Withdrawal
    user_id: UUID
    provider_id: UUID
    account_name: str
    stuck: bool
    tries: Count
    paid_by: PaidBy | None = None
    processed_by: UUID | None = None
    submitted_at: At | None = None
    last_error: str | None = None
    account_number: AccountNumber | None = None
