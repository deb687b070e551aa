"""Asking the gateway, and what follows from what it says.

The truth about a payout is its withdrawal's row: a job of the queue is only the reason to look at it. So a job that comes twice finds it done, two at
the same time find one lease, and one that was lost is made again by `rescue`. Only a clear answer resolves anything.
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar
from uuid import UUID

import structlog

from dispatch.inbox import Inbox, append
from dispatch.kit.breaker import Breaker, CircuitOpen, State
from dispatch.kit.clock import Clock
from dispatch.kit.errors import Overloaded
from dispatch.kit.ids import jitter_s, new_id
from dispatch.kit.postgres import LOST, STUCK, Postgres
from dispatch.notifications import Notifications
from dispatch.wallets.model import Payout, PayoutDoor, Said, Unclear
from dispatch.wallets.rules import WAIT_S_MAX, wait_s
from dispatch.wallets.store import Q
from dispatch.wallets.vault import Unreadable, Vault
from dispatch.wallets.withdrawals import resolved
from protocol.resources.wallets import PaidBy, WithdrawalStatus

log = structlog.get_logger("payouts")

T = TypeVar("T")

_POSTGRES_PAUSE_S = 2.0
_ERROR_MAX = 300
_REASON_MAX = 500
_REFUSED = "the bank refused it"


class _Later(Exception):
    """Nothing is known yet. `counted`: the gateway was asked; `after_s`: what is known of when it is worth asking again."""

    def __init__(self, why: str, *, counted: bool = True, after_s: float | None = None) -> None:
        super().__init__(why)
        self.counted = counted
        self.after_s = after_s


class Payouts:
    """One per worker. Without a door people pay, and this does nothing; with one it looks after what was let go to a door of this `way` alone."""

    def __init__(
        self,
        pg: Postgres,
        inbox: Inbox,
        notifications: Notifications,
        door: PayoutDoor | None,
        way: PaidBy,
        vault: Vault,
        clock: Clock,
        *,
        timeout_s: float,
        base_s: float,
        jitter: Callable[[float, float], float] = jitter_s,
    ) -> None:
        self._pg = pg
        self._inbox = inbox
        self._notifications = notifications
        self._door = door
        self._way = str(way)
        self._vault = vault
        self._timeout_s = timeout_s
        self._base_s = base_s
        self._jitter = jitter
        # Two: a gateway that takes nothing may still say what has become of what it took.
        self._submitting, self._querying = Breaker(clock), Breaker(clock)
        self.lease_s = 3 * timeout_s
        """A question and a submission end within one timeout each; the rest is for Postgres, and for a worker that is slow and not dead."""

    def circuits(self) -> dict[str, State]:
        """The gateway, where there is one: what it is to this process now."""
        return {} if self._door is None else {"payout": self._submitting.state, "payout query": self._querying.state}

    async def handle(self, payload: bytes) -> float | None:
        """A job of the queue. Raises: ValueError for a payload that is no withdrawal."""
        withdrawal_id = UUID(payload.decode("ascii"))
        try:
            return await self.pay(withdrawal_id)
        except (*LOST, *STUCK, Overloaded) as error:
            # Whatever the gateway said, the lease lapses and it is asked again.
            log.warning("no Postgres for a payout", withdrawal_id=str(withdrawal_id), error=repr(error))
            return _POSTGRES_PAUSE_S

    async def pay(self, withdrawal_id: UUID) -> float | None:
        """Ask once. Returns None when nothing is left to do, else the seconds after which to come back.

        Cancelled meanwhile, it leaves the lease to lapse: whether the payout arrived is unknown then, and the gateway is asked first.
        """
        if self._door is None:
            return None
        lease = new_id()
        async with self._pg.system() as conn:
            claim = await conn.fetchrow(Q["payout_claim"], withdrawal_id, self._way, lease, self.lease_s)
        assert claim is not None
        if claim["word"] == "held":
            return float(claim["wait_s"]) + self._jitter(0.0, 0.5)
        if claim["word"] != "yours":
            return None
        try:
            said = await self._ask(self._door, withdrawal_id, claim, lease)
        except _Later as later:
            wait = later.after_s
            if wait is None:
                wait = wait_s(claim["tries"], base_s=self._base_s, chance=self._jitter(0.0, 1.0))
            async with self._pg.system() as conn:
                await conn.execute(
                    Q["payout_later"], withdrawal_id, lease, wait, str(later)[:_ERROR_MAX], later.counted
                )
            return wait
        await self._settle(withdrawal_id, lease, said)
        return None

    async def rescue(self, *, after_s: float = 10.0, batch: int = 500) -> int:
        """Give jobs to payouts that are overdue and have none. Returns how many."""
        if self._door is None:
            return 0
        async with self._pg.system() as conn:
            rescued = int(await conn.fetchval(Q["payouts_rescue"], self._way, after_s, batch))
        if rescued:
            log.info("payouts without a job", rescued=rescued)
        return rescued

    async def close(self) -> None:
        if self._door is not None:
            await self._door.close()

    async def _ask(self, door: PayoutDoor, withdrawal_id: UUID, claim: Any, lease: UUID) -> Said:
        """paid or failed. What may have been sent before is asked for, and sent again only when it never arrived. Raises: _Later."""
        try:
            number = self._vault.open(claim["account_id"], claim["sealed"])
        except Unreadable as error:
            log.error("a payout waits for its key", withdrawal_id=str(withdrawal_id), error=str(error))
            raise _Later(str(error), counted=False, after_s=WAIT_S_MAX) from None
        payout = Payout(
            withdrawal_id, claim["amount_minor"], claim["currency"], claim["bank_code"], number, claim["account_name"]
        )
        said = await self._through(self._querying, lambda: door.query(withdrawal_id)) if claim["sent_before"] else None
        if said is None:
            async with self._pg.system() as conn:
                if not await conn.fetchval(Q["payout_sending"], withdrawal_id, lease, self.lease_s):
                    raise _Later("the lease was lost", counted=False)
            said = await self._through(self._submitting, lambda: door.submit(payout))
        if said.status == "pending":
            raise _Later("pending at the gateway")
        # A bank's sentence may repeat the number, which is for nobody's history.
        return said if said.reason is None else replace(said, reason=said.reason.replace(number, f"…{number[-4:]}"))

    async def _through(self, breaker: Breaker, call: Callable[[], Awaitable[T]]) -> T:
        try:
            with breaker.call():
                async with asyncio.timeout(self._timeout_s):
                    return await call()
        except CircuitOpen as error:
            # All that wait would come back at the same moment, and only one of them may ask.
            spread_s = self._jitter(0.0, max(1.0, error.wait_s / 5))
            raise _Later("the circuit is open", counted=False, after_s=error.wait_s + spread_s) from None
        except Unclear as error:
            raise _Later(str(error)) from error
        except TimeoutError:
            raise _Later(f"no answer within {self._timeout_s:g} s") from None
        except Exception as error:
            log.warning("trouble with the gateway", error=type(error).__name__)
            raise _Later(type(error).__name__) from error

    async def _settle(self, withdrawal_id: UUID, lease: UUID, said: Said) -> None:
        paid = said.status == "paid"
        goal = WithdrawalStatus.COMPLETED if paid else WithdrawalStatus.FAILED
        async with self._pg.system_tx() as tx:
            row = await tx.fetchrow(Q["withdrawal_lock"], withdrawal_id)
            assert row is not None
            if row["status"] != WithdrawalStatus.PROCESSING:
                if row["status"] != goal:
                    log.error(
                        "the gateway and a person decided differently: look into it",
                        withdrawal_id=str(withdrawal_id),
                        status=row["status"],
                        gateway=said.status,
                    )
                return
            if not paid and row["lease"] != lease:
                return  # whoever has the lease now hears it too
            told = await resolved(
                tx,
                self._notifications,
                withdrawal_id,
                row,
                goal,
                reason=None if paid else (said.reason or _REFUSED)[:_REASON_MAX],
                transaction_id=said.transaction_id,
                by=None,
            )
            facts = await append(tx, told)
        self._inbox.deliver(facts)
        log.info("payout ended", withdrawal_id=str(withdrawal_id), status=str(goal))
