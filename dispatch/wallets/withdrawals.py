"""Withdrawals: asked for by their owner, let go or turned down by the office, resolved once."""

from datetime import timedelta
from typing import Any
from uuid import UUID

import orjson
import structlog

from dispatch import audit
from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.inbox import Inbox, append, pending
from dispatch.kit.errors import Forbidden, Missing
from dispatch.kit.ids import new_id
from dispatch.kit.paging import page, read_cursor
from dispatch.kit.postgres import Actor, Postgres, Tx
from dispatch.ledger import InsufficientBalance, post, purse, wallet_told
from dispatch.notifications import Notice, Notifications
from dispatch.providers import check_may_work
from dispatch.wallets import rules
from dispatch.wallets.accounts import number_of
from dispatch.wallets.errors import BankAccountMissing, BankAccountUnverified
from dispatch.wallets.service import Wallets
from dispatch.wallets.store import Q, currency_for, gate, purses
from dispatch.wallets.vault import Vault
from protocol.notices import NoticeType
from protocol.resources.wallets import (
    PaidBy,
    WithdrawalAction,
    WithdrawalMove,
    WithdrawalRequest,
    WithdrawalStatus,
)

log = structlog.get_logger("wallets")

ESTIMATE = timedelta(days=3)
"""What a provider is told: the office looks within a working day, banks take one or two."""

Told = list[tuple[UUID, str, bytes]]

_NOTICES = {
    WithdrawalStatus.COMPLETED: NoticeType.WITHDRAWAL_COMPLETED,
    WithdrawalStatus.FAILED: NoticeType.WITHDRAWAL_FAILED,
    WithdrawalStatus.REJECTED: NoticeType.WITHDRAWAL_REJECTED,
}


class Withdrawals:
    """One per worker. `way`: who pays what is let go from now on."""

    def __init__(
        self,
        pg: Postgres,
        inbox: Inbox,
        notifications: Notifications,
        idempotency: Idempotency,
        vault: Vault,
        wallets: Wallets,
        *,
        minimum_minor: int,
        way: PaidBy,
    ) -> None:
        self._pg = pg
        self._inbox = inbox
        self._notifications = notifications
        self._once = idempotency.once
        self._vault = vault
        self._wallets = wallets
        self._minimum_minor = minimum_minor
        self._way = way

    async def request(self, actor: Actor, request: WithdrawalRequest, key: str | None) -> Answer:
        """Ask for money; it is held from this commit on.

        Raises: AmountTooSmall, Invalid (currency), ProviderMissing, Suspended, NotApproved, BankAccountMissing, BankAccountUnverified,
        InsufficientBalance.
        """
        rules.check_amount(request.amount_minor, self._minimum_minor)
        withdrawal_id = new_id()
        async with self._once(actor, key, fingerprint_of("withdrawals.request", request)) as turn:
            if turn.replay is not None:
                return turn.replay
            tx = turn.tx
            _, status = await gate(tx, actor.user_id)
            check_may_work(status)
            currency = await currency_for(
                tx,
                actor.user_id,
                request.currency,
                await purses(tx, actor.user_id),
                self._wallets.markets,
            )
            view = await self._opened(tx, actor, withdrawal_id, request, currency)
            before = await purse(tx, actor.user_id, currency, tell=(actor.user_id,))
            if before.wallet_minor < request.amount_minor:
                raise InsufficientBalance(
                    "more than is available", requested=request.amount_minor, available=before.wallet_minor
                )
            legs = rules.hold_legs(before, request.amount_minor)
            ref = f"wd:{withdrawal_id}"
            await post(tx, "withdrawal_hold", f"{ref}:hold", currency, legs, ref=ref)
            facts = await append(tx, [told_withdrawal(actor.user_id, view), wallet_told(before.after(legs))])
            answer = turn.keep(Answer(view[:-1] + b',"withdrawal_id":"' + str(withdrawal_id).encode() + b'"}', 201))
        self._inbox.deliver(facts)
        log.info("withdrawal requested", withdrawal_id=str(withdrawal_id), currency=currency)
        return answer

    async def _opened(self, tx: Tx, actor: Actor, new: UUID, request: WithdrawalRequest, currency: str) -> bytes:
        row = await tx.fetchrow(
            Q["withdrawal_open"],
            new,
            actor.user_id,
            request.bank_account_id,
            request.amount_minor,
            currency,
            ESTIMATE,
        )
        assert row is not None
        match row["word"]:
            case "account":
                raise BankAccountMissing(f"no bank account {request.bank_account_id} of this user")
            case "unverified":
                raise BankAccountUnverified("its document is not approved now")
        view: bytes = row["view"]
        return view

    async def page(self, actor: Actor, *, limit: int, cursor: str | None) -> bytes:
        """The own ones, newest first. Raises: Invalid."""
        before = read_cursor(cursor)
        async with self._pg.acting(actor) as tx:
            rows = await tx.fetch(Q["withdrawals_of"], actor.user_id, *before, limit + 1)
        return page(rows, limit)

    async def read(self, actor: Actor, withdrawal_id: UUID) -> bytes:
        """One of the own. Raises: Missing."""
        async with self._pg.acting(actor) as tx:
            view: bytes | None = await tx.fetchval(Q["withdrawal_own"], withdrawal_id, actor.user_id)
        if view is None:
            raise Missing(f"no withdrawal {withdrawal_id} of this user")
        return view

    # --- the office

    async def everybodys(
        self, admin: Actor, *, status: WithdrawalStatus | None, stuck: bool, limit: int, cursor: str | None
    ) -> bytes:
        """A page of all, oldest first; `stuck`: only those that have been processing for more than 30 minutes. Raises: Invalid."""
        after = read_cursor(cursor, oldest_first=True)
        async with self._pg.acting(admin) as tx:
            if stuck and status in (None, WithdrawalStatus.PROCESSING):
                rows = await tx.fetch(Q["withdrawals_stuck"], *after, limit + 1)
            elif stuck:
                rows = []
            elif status is None:
                rows = await tx.fetch(Q["withdrawals_all"], *after, limit + 1)
            else:
                rows = await tx.fetch(Q["withdrawals_in"], str(status), *after, limit + 1)
        return page(rows, limit)

    async def file(self, admin: Actor, withdrawal_id: UUID) -> bytes:
        """One of anybody's with the number that it goes to; that it was read is written down. Raises: Missing."""
        async with self._pg.acting(admin) as tx:
            row = await tx.fetchrow(Q["withdrawal_sealed"], withdrawal_id)
            if row is None:
                raise Missing(f"no withdrawal {withdrawal_id}")
            await audit.write(tx, admin, "read", ("withdrawal", withdrawal_id))
        return orjson.dumps(orjson.loads(row["view"]) | number_of(self._vault, row["id"], row["sealed"]))

    async def decide(self, admin: Actor, withdrawal_id: UUID, move: WithdrawalMove, key: str | None) -> Answer:
        """Let it go, turn it down, or say by hand how it ended. Raises: ReasonRequired, Invalid, Missing, IllegalTransition."""
        rules.check_words(move)
        body = {"withdrawal_id": withdrawal_id, "move": move}
        async with self._once(admin, key, fingerprint_of("withdrawals.decide", body)) as turn:
            if turn.replay is not None:
                return turn.replay
            tx = turn.tx
            row = await tx.fetchrow(Q["withdrawal_lock"], withdrawal_id)
            if row is None:
                raise Missing(f"no withdrawal {withdrawal_id}")
            if row["user_id"] == admin.user_id:
                raise Forbidden("somebody else decides on what you ask for yourself")
            status = WithdrawalStatus(row["status"])
            way = None if row["way"] is None else PaidBy(row["way"])
            goal = rules.decided(status, move.action, way=way, stuck=row["stuck"], held_now=row["held_now"])
            if goal is WithdrawalStatus.PROCESSING:
                view = await tx.fetchval(Q["withdrawal_process"], withdrawal_id, str(self._way), admin.user_id)
                told = [told_withdrawal(row["user_id"], view)]
            else:
                told = await resolved(
                    tx,
                    self._notifications,
                    withdrawal_id,
                    row,
                    goal,
                    reason=None if goal is WithdrawalStatus.COMPLETED else move.reason,
                    transaction_id=move.transaction_id if goal is WithdrawalStatus.COMPLETED else None,
                    by=admin.user_id,
                )
            after: dict[str, Any] = {"status": goal}
            if move.action is WithdrawalAction.COMPLETE:
                after["transaction_id"] = move.transaction_id
            await audit.write(
                tx,
                admin,
                str(move.action),
                ("withdrawal", withdrawal_id),
                before={"status": status},
                after=after,
                reason=move.reason,
            )
            file: bytes = await tx.fetchval(Q["withdrawal_file"], withdrawal_id)
            facts = await append(tx, told)
            answer = turn.keep(Answer(file))
        self._inbox.deliver(facts)
        log.info("withdrawal decided", withdrawal_id=str(withdrawal_id), status=str(goal), by=str(admin.user_id))
        return answer


async def resolved(
    tx: Tx,
    notifications: Notifications,
    withdrawal_id: UUID,
    row: Any,
    goal: WithdrawalStatus,
    *,
    reason: str | None,
    transaction_id: str | None,
    by: UUID | None,
) -> Told:
    """Resolve a withdrawal that the caller has locked (`row` of withdrawal_lock) and judged; what to tell comes back.

    One business key for all ends: whatever else goes wrong, the amount leaves the hold once.
    """
    owner, amount, currency = row["user_id"], row["amount_minor"], row["currency"]
    before = await purse(tx, owner, currency, tell=(owner,))
    view = await tx.fetchval(Q["withdrawal_resolve"], withdrawal_id, str(goal), reason, transaction_id, by)
    legs = rules.resolve_legs(before, amount, goal)
    kind = "withdrawal_paid" if goal is WithdrawalStatus.COMPLETED else "withdrawal_release"
    ref = f"wd:{withdrawal_id}"
    await post(tx, kind, f"{ref}:resolve", currency, legs, ref=ref)
    data = {"withdrawal_id": str(withdrawal_id), "amount_minor": amount, "currency": currency, "reason": reason}
    notices = await notifications.write(tx, [Notice(owner, _NOTICES[goal], data, ref)])
    return [told_withdrawal(owner, view), wallet_told(before.after(legs)), *notices]


def told_withdrawal(user_id: UUID, view: bytes) -> tuple[UUID, str, bytes]:
    """The fact that tells its owner of a withdrawal."""
    return pending(user_id, "withdrawal.updated", b'{"withdrawal":' + view + b"}")
