"""A provider's whole day against a pure model of it: jobs paid cashless and in cash, tips, bonuses, corrections, withdrawals, and deaths in
the middle of it all. After every step each account holds what the model says; after every day all books agree.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from dispatch.accounts import Idempotency
from dispatch.books import reconciled
from dispatch.earnings import Corrections, Tips
from dispatch.markets import Markets
from dispatch.notifications import Notifications
from dispatch.wallets import Vault, Wallets, Withdrawals
from protocol.lifecycle import Stage as Goal
from protocol.resources.money import AdjustmentRequest, TipRequest
from protocol.resources.wallets import PaidBy, WithdrawalAction, WithdrawalMove, WithdrawalRequest
from tests.machines.stage import MACHINE, Stage, acting, stage_of, word_of
from tests.support.fault_points import DIED, dying

LIMIT, MINIMUM = 1_500, 10_000
TIERS = [(2, 5_000), (4, 7_000)]
ADMIN = acting(UUID(int=78), "admin")
DAY = settings(MACHINE, max_examples=50, stateful_step_count=20, derandomize=True)
"""The same days each time: where they lead is part of what is checked."""

# The trip has not begun by the judge's clock, so however slow the machine is it lasts 0 seconds.
RIDING = """INSERT INTO jobs (id, market, service_type, status, round, version, customer_id, provider_id, provider_user_id, pickup_lat, pickup_lng,
    pickup_address, coarse, passenger_name, currency, surge_pct, base_minor, distance_minor, time_minor, surge_minor, estimated_earnings_minor,
    trail_m, ttl_s, expires_at, accepted_at, arrived_at, started_at, payment_method)
  VALUES ($1, 'bkk', 'ride', 'in_progress', 1, 5, $2, $3, $4, 13.75, 100.5, 'here', '{}', 'x', 'THB', $5, 3500, 0, 0, 0, 2800, $6, 600,
    clock_timestamp() + interval '1 h', clock_timestamp(), clock_timestamp(), clock_timestamp() + interval '1 h', $7)"""
PROGRAM = """INSERT INTO incentives (id, name, service_types, market, currency, starts_at, ends_at, targets, bonuses, created_by)
  VALUES (gen_random_uuid(), 'Quest', '{ride}', 'bkk', 'THB', clock_timestamp() - interval '1 h', clock_timestamp() + interval '1 day', $1, $2, $3)"""
ACCOUNT = """WITH d AS (INSERT INTO provider_documents (id, provider_id, user_id, document_type, storage_path, content_type, size_bytes, sha256, status)
    VALUES (gen_random_uuid(), $2, $3, 'bank_account', ($1::uuid)::text, 'image/png', 1, 'x', 'approved') RETURNING id)
  INSERT INTO bank_accounts (id, provider_id, user_id, bank_code, account_name, sealed, key_id, last_four, document_id)
    SELECT $1::uuid, $2, $3, 'SCB', 'x', 'x', '0123456789abcdef', '7890', d.id FROM d"""


def half_up(amount: int, by: int) -> int:
    return (2 * amount + by) // (2 * by)


@dataclass
class Earned:
    """A row of earnings as it should be; `taken`: what a cash job's fee cost him."""

    kind: str
    net: int
    taken: int = 0
    cash: bool = False
    reversed: bool = False


@dataclass
class Money:
    """What he has, by the rules on paper."""

    free: int = 0
    held: int = 0
    owed: int = 0
    lost: int = 0
    """Fees beyond his limit."""
    rows: list[Earned] = field(default_factory=list)
    jobs: int = 0

    def credit(self, amount: int) -> None:
        repaid = min(amount, self.owed)
        self.owed -= repaid
        self.free += amount - repaid

    def charge(self, amount: int) -> int:
        """As far as wallet and limit go; what was taken."""
        paid = min(amount, self.free)
        owed = min(amount - paid, LIMIT - self.owed)
        self.free -= paid
        self.owed += owed
        return paid + owed

    @property
    def room(self) -> int:
        return self.free + LIMIT - self.owed

    def complete(self, metres: int, surge_pct: int, cash: bool) -> None:
        plain = 3_500 + half_up(500 * metres, 1_000)
        total = plain + half_up(plain * (surge_pct - 100), 100)
        fee = half_up(total * 20, 100)
        taken = self.charge(fee) if cash else 0
        if cash:
            self.lost += fee - taken
        else:
            self.credit(total - fee)
        self.rows.append(Earned("job", total - fee, taken, cash))
        self.jobs += 1
        for target, bonus in TIERS:
            if target == self.jobs:
                self.credit(bonus)
                self.rows.append(Earned("bonus", bonus))

    def reverse(self, row: Earned) -> str:
        if row.reversed or row.kind == "reversal":
            return "ALREADY_REVERSED"
        if row.cash:
            self.credit(row.taken)
        elif row.net < 0:
            self.credit(-row.net)
        elif row.net > self.room:
            return "INSUFFICIENT_BALANCE"
        else:
            self.charge(row.net)
        row.reversed = True
        self.rows.append(Earned("reversal", -row.net))
        return "done"


@dataclass
class World:
    """The server's use cases, and the stage that they run on."""

    stage: Stage
    tips: Tips
    corrections: Corrections
    withdrawals: Withdrawals


class Day(RuleBasedStateMachine):
    def __init__(self, world: World) -> None:
        super().__init__()
        self.world, self.stage = world, world.stage
        ((self.user, self.provider),) = self.stage.providers(1)
        (self.customer,) = self.stage.customers(1)
        self.account = uuid4()
        self.stage.sql(ACCOUNT, self.account, self.provider, self.user)
        self.actor = acting(self.user)
        self.money = Money()
        self.jobs: list[UUID] = []
        self.tipped: set[UUID] = set()
        self.withdrawals: dict[UUID, tuple[int, str]] = {}

    @initialize(begun=st.sampled_from(["nothing", "asked", "processing"]))
    def has_begun(self, begun: str) -> None:
        """Some days begin with a good job and money asked for: withdrawals need more than a few steps leave."""
        if begun != "nothing":
            self.completes_a_job(40_000, 100, False, None, False)
            self.asks_for_money(MINIMUM)
        if begun == "processing":
            self.is_paid_or_not(1, WithdrawalAction.PROCESS)

    # --- work

    @rule(
        metres=st.integers(0, 40_000),
        surge_pct=st.sampled_from([100, 100, 150, 233, 999]),
        cash=st.booleans(),
        dies_at=st.none() | st.integers(0, 14),
        again=st.booleans(),
    )
    def completes_a_job(self, metres: int, surge_pct: int, cash: bool, dies_at: int | None, again: bool) -> None:
        job_id, key = uuid4(), str(uuid4())
        method = "cash" if cash else "cashless"
        self.stage.sql(RIDING, job_id, self.customer, self.provider, self.user, surge_pct, float(metres), method)
        if dies_at is not None and not self.stage.run(self.died(job_id, key, dies_at)):
            again = True  # it was done before it could die
        self.money.complete(metres, surge_pct, cash)
        self.jobs.append(job_id)
        for _ in range(2 if again else 1):
            assert self.stage.run(word_of(self.advance(job_id, key))) == "done"

    async def died(self, job_id: UUID, key: str, at: int) -> bool:
        async with dying(self.stage.server, at):
            try:
                await self.advance(job_id, key)
            except DIED:
                return True
        return False

    async def advance(self, job_id: UUID, key: str) -> Any:
        return await self.stage.app.jobs.advance(self.actor, job_id, Goal.COMPLETED, key=key)

    @precondition(lambda self: self.jobs)
    @rule(which=st.integers(0, 9), amount=st.integers(100, 100_000))
    def is_tipped(self, which: int, amount: int) -> None:
        job_id = self.jobs[which % len(self.jobs)]
        word = "TIP_EXISTS" if job_id in self.tipped else "done"
        given = self.world.tips.give(acting(self.customer), job_id, TipRequest(amount), str(uuid4()))
        assert self.stage.run(word_of(given)) == word
        if word == "done":
            self.tipped.add(job_id)
            self.money.credit(amount)
            self.money.rows.append(Earned("tip", amount))

    # --- the office

    @rule(amount=st.integers(-9_000, 9_000).filter(bool))
    def is_corrected(self, amount: int) -> None:
        word = "INSUFFICIENT_BALANCE" if -amount > self.money.room else "done"
        request = AdjustmentRequest(amount, "THB", "because")
        assert (
            self.stage.run(word_of(self.world.corrections.adjust(ADMIN, self.provider, request, str(uuid4())))) == word
        )
        if word == "done":
            if amount > 0:
                self.money.credit(amount)
            else:
                self.money.charge(-amount)
            self.money.rows.append(Earned("adjustment", amount))

    @precondition(lambda self: self.money.rows)
    @rule(which=st.integers(0, 30))
    def loses_an_earning(self, which: int) -> None:
        place = which % len(self.money.rows)
        row = self.stage.sql(
            "SELECT id FROM earnings WHERE user_id = $1 ORDER BY earned_at OFFSET $2 LIMIT 1", self.user, place
        )[0]
        word = self.money.reverse(self.money.rows[place])
        assert (
            self.stage.run(word_of(self.world.corrections.reverse(ADMIN, row["id"], "because", str(uuid4())))) == word
        )

    # --- the bank

    @rule(amount=st.integers(MINIMUM - 1, 60_000) | st.integers(MINIMUM, 12_000))
    def asks_for_money(self, amount: int) -> None:
        word = (
            "INSUFFICIENT_AMOUNT"
            if amount < MINIMUM
            else "INSUFFICIENT_BALANCE"
            if amount > self.money.free
            else "done"
        )
        wanted = WithdrawalRequest(amount, self.account, "THB")
        assert self.stage.run(word_of(self.world.withdrawals.request(self.actor, wanted, str(uuid4())))) == word
        if word == "done":
            (row,) = self.stage.sql(
                "SELECT id FROM withdrawals WHERE user_id = $1 ORDER BY requested_at DESC LIMIT 1", self.user
            )
            self.withdrawals[row["id"]] = (amount, "pending")
            self.money.free, self.money.held = self.money.free - amount, self.money.held + amount

    @precondition(lambda self: self.withdrawals)
    @rule(
        which=st.integers(0, 9),
        action=st.sampled_from([WithdrawalAction.PROCESS, WithdrawalAction.COMPLETE, *WithdrawalAction]),
    )
    def is_paid_or_not(self, which: int, action: WithdrawalAction) -> None:
        start, goal = {
            WithdrawalAction.PROCESS: ("pending", "processing"),
            WithdrawalAction.REJECT: ("pending", "rejected"),
            WithdrawalAction.COMPLETE: ("processing", "completed"),
            WithdrawalAction.FAIL: ("processing", "failed"),
        }[action]
        # Mostly one that this can be done to.
        fit = [one for one, (_, status) in self.withdrawals.items() if status == start] if which else []
        among = fit or list(self.withdrawals)
        one = among[which % len(among)]
        amount, status = self.withdrawals[one]
        word = "done" if status == start else "INVALID_STATUS_TRANSITION"
        move = WithdrawalMove(action, "because", "T")
        assert self.stage.run(word_of(self.world.withdrawals.decide(ADMIN, one, move, str(uuid4())))) == word
        if word == "done":
            self.withdrawals[one] = (amount, goal)
            if goal != "processing":
                self.money.held -= amount
            if goal in ("rejected", "failed"):
                self.money.credit(amount)

    # --- what must hold

    @invariant()
    def every_account_is_as_the_model_says(self) -> None:
        rows = self.stage.sql("SELECT kind, balance FROM ledger_account WHERE owner_id = $1", self.user)
        found = {row["kind"]: row["balance"] for row in rows}
        money = self.money
        assert (found.get("wallet", 0), found.get("payout_pending", 0), -found.get("provider_debt", 0)) == (
            money.free,
            money.held,
            money.owed,
        )
        earned = self.stage.sql("SELECT kind, net_minor FROM earnings WHERE user_id = $1 ORDER BY earned_at", self.user)
        assert [(row["kind"], row["net_minor"]) for row in earned] == [(row.kind, row.net) for row in money.rows]
        (told,) = self.stage.sql(
            "SELECT (SELECT body -> 'wallet' ->> 'available_minor' FROM events WHERE user_id = $1 AND name = 'wallet.updated' ORDER BY seq DESC LIMIT 1) AS free",
            self.user,
        )
        assert int(told["free"] or 0) == money.free, "what he was told last is what he has"

    def teardown(self) -> None:
        """At the end of the day everything adds up."""
        lines: list[str] = []
        assert self.stage.run(reconciled(self.stage.server.settings.database_url or "", lines.append)) == 0, lines
        (sums,) = self.stage.sql(
            "SELECT coalesce(sum(jobs), 0) AS jobs, coalesce(sum(net_minor), 0) AS net FROM earning_totals WHERE user_id = $1",
            self.user,
        )
        assert (sums["jobs"], sums["net"]) == (self.money.jobs, sum(row.net for row in self.money.rows))


@pytest.fixture
def stage(database_url: str, redis_url: str) -> Iterator[Stage]:
    with stage_of(database_url, redis_url, debt_limit_minor=LIMIT, payout_by="manual") as opened:
        yield opened


def test_a_provider_s_day_is_as_the_model_says(stage: Stage) -> None:
    app, markets, once = stage.app, Markets.load(), Idempotency(stage.app.pg)
    withdrawals = Withdrawals(
        app.pg, app.inbox, Notifications(), once, Vault.of(stage.server.settings), Wallets(app.pg, markets), minimum_minor=MINIMUM, way=PaidBy.MANUAL
    )  # fmt: skip
    world = World(
        stage, Tips(app.inbox, markets, Notifications(), once), Corrections(app.inbox, markets, once), withdrawals
    )
    stage.sql("INSERT INTO users (id) VALUES ($1)", ADMIN.user_id)
    stage.sql(PROGRAM, [target for target, _ in TIERS], [bonus for _, bonus in TIERS], ADMIN.user_id)
    run_state_machine_as_test(lambda: Day(world), settings=DAY)
    kinds = {row["kind"] for row in stage.sql("SELECT DISTINCT kind FROM ledger_txn")}
    assert {"earning", "cash_fee"} < kinds and len(kinds) >= 6, "it has been somewhere, wherever chance led it"
