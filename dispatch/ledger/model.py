"""Nouns of the ledger."""

from dataclasses import dataclass
from enum import StrEnum
from uuid import UUID


class Kind(StrEnum):
    """The chart of accounts (`ledger_kind`). Owned ones first; the platform's and the outside world's have no owner and no floor."""

    WALLET = "wallet"
    PAYOUT_PENDING = "payout_pending"
    PROVIDER_DEBT = "provider_debt"
    BOOKING_ESCROW = "booking_escrow"
    CREDITS = "credits"
    PARTNER_POOL = "partner_pool"
    PARTNER_LOT = "partner_lot"

    RIDE_CLEARING = "ride_clearing"
    STRIPE_CLEARING = "stripe_clearing"
    BANK_CLEARING = "bank_clearing"
    PLATFORM_FEE = "platform_fee"
    PROMO_EXPENSE = "promo_expense"
    FEE_WRITEOFF = "fee_writeoff"
    ADJUSTMENT_EXPENSE = "adjustment_expense"
    CREDIT_ISSUANCE = "credit_issuance"
    CREDIT_REDEEMED = "credit_redeemed"
    CREDIT_EXPIRED = "credit_expired"


@dataclass(frozen=True, slots=True)
class Account:
    """By kind and owner; None: the platform's, the shard of the connection at work. It is made when it is first used."""

    kind: Kind
    owner_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Leg:
    """Money that goes from `src` to `dst`: > 0, in minor units."""

    src: Account
    dst: Account
    amount_minor: int


@dataclass(frozen=True, slots=True)
class Posted:
    """`replayed`: the key was posted before, and nothing happened now."""

    txn_id: int
    replayed: bool


@dataclass(frozen=True, slots=True)
class Purse:
    """What somebody has in one asset, in minor units; his wallet is locked while this is true."""

    owner_id: UUID
    asset: str
    wallet_minor: int
    held_minor: int
    owed_minor: int
    owed_max_minor: int

    def after(self, legs: "list[Leg]") -> "Purse":
        """The same once `legs` are posted."""
        changed = {
            Kind.WALLET: self.wallet_minor,
            Kind.PAYOUT_PENDING: self.held_minor,
            Kind.PROVIDER_DEBT: -self.owed_minor,
        }
        for leg in legs:
            for account, amount in ((leg.src, -leg.amount_minor), (leg.dst, leg.amount_minor)):
                if account.owner_id == self.owner_id and account.kind in changed:
                    changed[account.kind] += amount
        return Purse(
            self.owner_id,
            self.asset,
            changed[Kind.WALLET],
            changed[Kind.PAYOUT_PENDING],
            -changed[Kind.PROVIDER_DEBT],
            self.owed_max_minor,
        )
