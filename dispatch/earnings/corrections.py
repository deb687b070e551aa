"""Corrections by the office: new postings and new rows, never a change of what was written."""

from uuid import UUID

from dispatch import audit
from dispatch.accounts import Answer, Idempotency, fingerprint_of
from dispatch.earnings import rules, store
from dispatch.earnings.errors import EarningMissing
from dispatch.earnings.model import Row
from dispatch.earnings.payroll import earned
from dispatch.earnings.service import market_of
from dispatch.inbox import Fact, Inbox, append
from dispatch.jobs import JobMissing, locked
from dispatch.kit.errors import Invalid, ReasonRequired
from dispatch.kit.ids import new_id
from dispatch.kit.postgres import Actor, Tx
from dispatch.kit.words import blank
from dispatch.ledger import AlreadyReversed, InsufficientBalance, Kind, Leg, Purse, post, purse, wallet_told
from dispatch.markets import Markets
from protocol.resources.money import AdjustmentRequest


class Corrections:
    """One per worker. For admins."""

    def __init__(self, inbox: Inbox, markets: Markets, idempotency: Idempotency) -> None:
        self._inbox = inbox
        self._markets = markets
        self._once = idempotency.once

    async def adjust(self, actor: Actor, provider_id: UUID, request: AdjustmentRequest, key: str | None) -> Answer:
        """Give a provider an amount, or take it: from his wallet, then as a debt. The answer's body is the Earning.

        Raises: ReasonRequired, ProviderMissing, JobMissing (a job that is not his), Invalid, InsufficientBalance.
        """
        reason = _reason(request.reason)
        asked = {"provider_id": provider_id, "adjustment": request}
        async with self._once(actor, key, fingerprint_of("corrections.adjust", asked)) as turn:
            if turn.replay is not None:
                return turn.replay
            tx = turn.tx
            provider_id, user_id = await store.earner(tx, provider_id=provider_id)
            market, service_type = await self._meant(tx, provider_id, request)
            before = await purse(tx, user_id, request.currency, tell=(user_id,))
            row = Row(
                new_id(),
                provider_id,
                user_id,
                "adjustment",
                market,
                request.currency,
                job_id=request.job_id,
                service_type=service_type,
                adjustment_minor=request.amount_minor,
                reason=reason,
            )
            legs = rules.adjusting(before, request.amount_minor)
            _check(before, legs)
            posted = await post(tx, "adjustment", f"adj:{row.id}", row.currency, legs, asked=[row.adjustment_minor])
            after = {"provider_id": provider_id, "currency": row.currency, "amount_minor": row.adjustment_minor}
            await audit.write(tx, actor, "adjust", ("earning", row.id), after=after, reason=reason)
            answer, facts = await self._written(tx, row, posted.txn_id, before.after(legs))
            turn.keep(answer)
        self._inbox.deliver(facts)
        return answer

    async def reverse(self, actor: Actor, earning_id: UUID, reason: str | None, key: str | None) -> Answer:
        """Take an earning back, once: by a posting that reverses its own, and a row with every part negated. The answer's body is that row.

        Raises: ReasonRequired, EarningMissing, AlreadyReversed, InsufficientBalance.
        """
        told = _reason(reason)
        asked = {"earning_id": earning_id, "reason": told}
        async with self._once(actor, key, fingerprint_of("corrections.reverse", asked)) as turn:
            if turn.replay is not None:
                return turn.replay
            tx = turn.tx
            found = await store.read(tx, earning_id)
            if found is None:
                raise EarningMissing(f"no earning {earning_id}")
            first, txn = found
            if first.kind == "reversal":
                raise AlreadyReversed("a reversal is not reversed: adjust instead")
            if first.job_id is not None:
                await locked(tx, first.job_id)
            before = await purse(tx, first.user_id, first.currency, tell=(first.user_id,))
            # Asked with the wallet locked: of two who reverse the same the second sees the first's row.
            if await tx.fetchval(store.Q["earning_reversed"], earning_id):
                raise AlreadyReversed(f"earning {earning_id} is reversed already")
            row = first.reversed(new_id(), told)
            legs = rules.reversing(first, before)
            _check(before, legs)
            back = None
            if txn is not None:
                ref = None if first.job_id is None else f"job:{first.job_id}"
                posted = await post(
                    tx, "earning_reversal", f"rev:{first.id}", first.currency, legs, ref=ref, asked=[], reverses=txn
                )
                back = posted.txn_id
            changed = {"provider_id": row.provider_id, "kind": first.kind, "net_minor": row.net_minor}
            await audit.write(tx, actor, "reverse", ("earning", first.id), after=changed, reason=told)
            answer, facts = await self._written(tx, row, back, before.after(legs))
            turn.keep(answer)
        self._inbox.deliver(facts)
        return answer

    async def _meant(self, tx: Tx, provider_id: UUID, request: AdjustmentRequest) -> tuple[str, str | None]:
        """(market, service type) that the correction counts for: those of its job, where it has one."""
        if request.job_id is None:
            return market_of(self._markets, request.currency).code, None
        # Locked before the wallet, as by a tip: the row of earnings refers to it, and that reference takes a lock.
        job = await locked(tx, request.job_id)
        if job is None or job.provider_id != provider_id:
            raise JobMissing(f"no job {request.job_id} of this provider")
        if job.currency != request.currency:
            problem = f"the job is paid in {job.currency}"
            raise Invalid("currency", fields=[{"field": "currency", "problem": problem}])
        return job.market, job.service_type

    async def _written(self, tx: Tx, row: Row, txn: int | None, after: Purse) -> tuple[Answer, list[Fact]]:
        view = await store.add(tx, row, txn, str(self._markets[row.market].timezone))
        facts = await append(tx, [earned(row.user_id, view), wallet_told(after)])
        return Answer(view, 201), facts


def _reason(reason: str | None) -> str:
    if blank(reason):
        raise ReasonRequired("a correction says why")
    return (reason or "").strip()


def _check(before: Purse, legs: list[Leg]) -> None:
    """Whether wallet and the room of the debt hold what is taken, in words: the floor would refuse it anyway."""
    taken = sum(
        leg.amount_minor
        for leg in legs
        if leg.src.owner_id == before.owner_id
        and leg.src.kind in (Kind.WALLET, Kind.PROVIDER_DEBT)
        and leg.dst.owner_id is None
    )
    room = before.wallet_minor + max(0, before.owed_max_minor - before.owed_minor)
    if taken > room:
        raise InsufficientBalance("more than wallet and debt hold", requested=taken, available=room)
