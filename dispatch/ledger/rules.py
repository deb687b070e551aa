"""Which legs an amount becomes: what is owed is paid first, and a fee takes the wallet before it becomes a debt."""

from uuid import UUID

import orjson

from dispatch.inbox import pending
from dispatch.ledger.model import Account, Kind, Leg, Purse


def credited(purse: Purse, amount_minor: int, source: Kind) -> list[Leg]:
    """Money for the owner of `purse`, from a platform account: into his wallet, and from there what he owes. 0: nothing."""
    if amount_minor == 0:
        return []
    wallet, debt = Account(Kind.WALLET, purse.owner_id), Account(Kind.PROVIDER_DEBT, purse.owner_id)
    legs = [Leg(Account(source), wallet, amount_minor)]
    if repaid := min(amount_minor, purse.owed_minor):
        legs.append(Leg(wallet, debt, repaid))
    return legs


def charged(purse: Purse, amount_minor: int, sink: Kind, *, rest: Kind | None = None) -> list[Leg]:
    """Money from the owner of `purse`: his wallet first, then his debt as far as its limit, then `rest`.

    Without `rest` what the debt cannot hold stays a leg from it, for the floor to refuse.
    """
    wallet, debt = Account(Kind.WALLET, purse.owner_id), Account(Kind.PROVIDER_DEBT, purse.owner_id)
    legs = []
    if paid := min(amount_minor, purse.wallet_minor):
        legs.append(Leg(wallet, Account(sink), paid))
    left = amount_minor - paid
    owed = left if rest is None else min(left, max(0, purse.owed_max_minor - purse.owed_minor))
    if owed:
        legs.append(Leg(debt, Account(sink), owed))
    if rest is not None and left > owed:
        legs.append(Leg(Account(rest), Account(sink), left - owed))
    return legs


def wallet_of(purse: Purse) -> dict[str, object]:
    """The wallet as the wire shows it: `balance` is what is his, `available` what he may take out now."""
    return {
        "currency": purse.asset,
        "balance_minor": purse.wallet_minor + purse.held_minor,
        "available_minor": purse.wallet_minor,
        "held_minor": purse.held_minor,
        "debt_minor": purse.owed_minor,
    }


def wallet_told(purse: Purse) -> tuple[UUID, str, bytes]:
    """The fact that tells its owner what he has now."""
    return pending(purse.owner_id, "wallet.updated", orjson.dumps({"wallet": wallet_of(purse)}))
