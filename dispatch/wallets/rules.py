"""Which withdrawals may be asked for, what may become of them, and how patient a payout is."""

from dispatch.kit.errors import IllegalTransition, Invalid, ReasonRequired
from dispatch.kit.words import blank
from dispatch.ledger import Account, Kind, Leg, Purse
from dispatch.wallets.errors import AmountTooSmall
from protocol.resources.wallets import PaidBy, WithdrawalAction, WithdrawalMove, WithdrawalStatus

WAIT_S_MAX = 600.0

_FROM_TO = {
    WithdrawalAction.PROCESS: (WithdrawalStatus.PENDING, WithdrawalStatus.PROCESSING),
    WithdrawalAction.REJECT: (WithdrawalStatus.PENDING, WithdrawalStatus.REJECTED),
    WithdrawalAction.COMPLETE: (WithdrawalStatus.PROCESSING, WithdrawalStatus.COMPLETED),
    WithdrawalAction.FAIL: (WithdrawalStatus.PROCESSING, WithdrawalStatus.FAILED),
}
BY_HAND = frozenset({WithdrawalAction.COMPLETE, WithdrawalAction.FAIL})


def check_amount(amount_minor: int, minimum_minor: int) -> None:
    """Raises: AmountTooSmall."""
    if amount_minor < minimum_minor:
        raise AmountTooSmall(
            "below the smallest withdrawal", requested_amount=amount_minor, minimum_amount=minimum_minor
        )


def check_words(move: WithdrawalMove) -> None:
    """What an action has to bring, whatever the state. Raises: ReasonRequired, Invalid."""
    if move.action in (WithdrawalAction.REJECT, WithdrawalAction.FAIL) and blank(move.reason):
        raise ReasonRequired(f"{move.action} needs a reason")
    if move.action is WithdrawalAction.COMPLETE and blank(move.transaction_id):
        problem = "complete needs the bank's transaction id"
        raise Invalid("transaction_id", fields=[{"field": "transaction_id", "problem": problem}])


def decided(
    status: WithdrawalStatus, action: WithdrawalAction, *, way: PaidBy | None, stuck: bool, held_now: bool
) -> WithdrawalStatus:
    """What `action` makes of it. `stuck`: processing for more than 30 minutes; `held_now`: a worker is asking the gateway right now.

    Raises: IllegalTransition.
    """
    start, goal = _FROM_TO[action]
    if status is not start:
        raise IllegalTransition(f"{action} from {status}", status=status, action=action)
    if action in BY_HAND and way is not PaidBy.MANUAL:
        if not stuck:
            why = "the gateway decides; by hand only once it has been processing for more than 30 minutes"
            raise IllegalTransition(why, status=status, action=action, why=why)
        if held_now:
            why = "the gateway is being asked right now; look again in a minute"
            raise IllegalTransition(why, status=status, action=action, why=why)
    return goal


def hold_legs(purse: Purse, amount_minor: int) -> list[Leg]:
    return [Leg(Account(Kind.WALLET, purse.owner_id), Account(Kind.PAYOUT_PENDING, purse.owner_id), amount_minor)]


def resolve_legs(purse: Purse, amount_minor: int, goal: WithdrawalStatus) -> list[Leg]:
    """Out through the bank when it is completed; else back into the wallet, and from there what has come to be owed meanwhile."""
    held, wallet = Account(Kind.PAYOUT_PENDING, purse.owner_id), Account(Kind.WALLET, purse.owner_id)
    if goal is WithdrawalStatus.COMPLETED:
        return [Leg(held, Account(Kind.BANK_CLEARING), amount_minor)]
    legs = [Leg(held, wallet, amount_minor)]
    if repaid := min(amount_minor, purse.owed_minor):
        legs.append(Leg(wallet, Account(Kind.PROVIDER_DEBT, purse.owner_id), repaid))
    return legs


def wait_s(tries: int, *, base_s: float, chance: float) -> float:
    """Seconds before the gateway is asked again after `tries` questions: doubled each time, spread by `chance` in 0..1."""
    return float(min(WAIT_S_MAX, base_s * 2.0 ** min(tries - 1, 20)) * (0.75 + chance / 2))
