"""Paying for a completed job, in its own transaction."""

from collections.abc import Sequence
from uuid import UUID

from dispatch.earnings import store
from dispatch.earnings.model import Bonus, Bonuses, Row
from dispatch.earnings.rules import legs_of, own
from dispatch.inbox import pending
from dispatch.jobs import Completed
from dispatch.kit.ids import new_id
from dispatch.kit.postgres import Tx
from dispatch.ledger import Kind, Purse, credited, post, purse, wallet_told
from dispatch.markets import Markets
from dispatch.notifications import Notice, Notifications
from protocol.notices import NoticeType
from protocol.resources import PaymentMethod


class Payroll:
    """One per worker."""

    def __init__(self, markets: Markets, notifications: Notifications, bonuses: Bonuses) -> None:
        self._markets = markets
        self._notifications = notifications
        self._bonuses = bonuses

    async def pay(self, tx: Tx, done: Completed) -> Sequence[tuple[UUID, str, bytes]]:
        """The provider's pay for `done` and the bonuses it reaches; what to tell comes back yet to be numbered.

        Cashless: the fare comes in, the net goes to the wallet and the fee to the platform. Cash: the provider has the fare in his hand, so the
        fee comes out of his wallet, then out of what he may owe; what is beyond his limit is the platform's loss, not his.
        """
        before = await purse(tx, done.provider_user_id, done.currency, tell=(done.provider_user_id, done.customer_id))
        bonuses = await self._bonuses.earned(tx, done)
        legs = legs_of(done, before)
        cash = done.payment_method == PaymentMethod.CASH
        txn = None
        if legs:
            key = f"job:{done.job_id}:{'cashfee' if cash else 'earning'}"
            asked = [done.job_id, done.fare.total_minor, done.fee_minor]
            posted = await post(
                tx, "cash_fee" if cash else "earning", key, done.currency, legs, ref=f"job:{done.job_id}", asked=asked
            )
            txn = posted.txn_id
        zone = str(self._markets[done.market].timezone)
        after = before.after(legs)
        row = _row_of(done, own(before) - own(after) if cash else 0)
        told = [earned(done.provider_user_id, await store.add(tx, row, txn, zone))]
        paid = []
        for bonus in bonuses:
            view, after = await self._bonus(tx, done, bonus, after, zone)
            if view is not None:
                told.append(earned(done.provider_user_id, view))
                paid.append(bonus)
        told.append(wallet_told(after))
        notices = [
            Notice(
                done.provider_user_id,
                NoticeType.INCENTIVE_COMPLETED,
                {"name": bonus.name, "amount_minor": bonus.amount_minor, "currency": done.currency},
                f"incentive:{bonus.incentive_id}:{bonus.tier}",
            )
            for bonus in paid
        ]
        return [*told, *await self._notifications.write(tx, notices)]

    async def _bonus(
        self, tx: Tx, done: Completed, bonus: Bonus, before: Purse, zone: str
    ) -> tuple[bytes | None, Purse]:
        """The row of a bonus. None: the ledger has paid it before, whatever the count says."""
        legs = credited(before, bonus.amount_minor, Kind.PROMO_EXPENSE)
        key = f"inc:{bonus.incentive_id}:{done.provider_id}:{bonus.tier}"
        posted = await post(tx, "bonus", key, done.currency, legs, asked=[bonus.amount_minor])
        if posted.replayed:
            return None, before
        row = Row(
            new_id(),
            done.provider_id,
            done.provider_user_id,
            "bonus",
            done.market,
            done.currency,
            bonus_minor=bonus.amount_minor,
            incentive_id=bonus.incentive_id,
        )
        return await store.add(tx, row, posted.txn_id, zone), before.after(legs)


def earned(user_id: UUID, view: bytes) -> tuple[UUID, str, bytes]:
    """The fact that tells a provider of a row of his earnings."""
    return pending(user_id, "earnings.created", b'{"earning":' + view + b"}")


def _row_of(done: Completed, taken_minor: int) -> Row:
    return Row(
        new_id(),
        done.provider_id,
        done.provider_user_id,
        "job",
        done.market,
        done.currency,
        job_id=done.job_id,
        service_type=done.service_type,
        payment_method=done.payment_method,
        base_minor=done.fare.base_minor,
        distance_minor=done.fare.distance_minor,
        time_minor=done.fare.time_minor,
        surge_minor=done.fare.surge_minor,
        platform_fee_minor=done.fee_minor,
        taken_minor=taken_minor,
    )
