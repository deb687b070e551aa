"""One person's withdrawals against a pure model of them: whatever the office, the bank, workers and retries do, an amount is settled or
released and never both, and the balances are the model's. WAL-03 to WAL-06, WAL-09, WAL-10.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
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
from dispatch.kit.breaker import Breaker
from dispatch.kit.clock import SystemClock
from dispatch.kit.queue import Consumer
from dispatch.ledger import Kind, credited, post, purse
from dispatch.markets import Markets
from dispatch.notifications import Notifications
from dispatch.wallets import Payout, Said, Unclear, Vault, Wallets, Withdrawals
from protocol.resources.wallets import PaidBy, WithdrawalAction, WithdrawalMove, WithdrawalRequest
from tests.machines.stage import MACHINE, Stage, acting, stage_of, word_of

FUNDS, MINIMUM = 100_000, 10_000
ADMIN = acting(UUID(int=77), "admin")
NUMBER = "1234567890"
which = st.integers(0, 5)


class ScriptedBank:
    """A bank that does what it is told next, under one key once."""

    def __init__(self) -> None:
        self.submits = self.answers = "pays"
        self.known: dict[UUID, str] = {}
        self.paid: Counter[UUID] = Counter()

    def end(self, payout_id: UUID, status: str) -> None:
        self.known[payout_id] = status
        self.paid[payout_id] += status == "paid"

    async def submit(self, payout: Payout) -> Said:
        assert payout.account_number == NUMBER
        if payout.id not in self.known:
            match self.submits:
                case "lost_before":
                    raise ConnectionResetError
                case "refuses":
                    self.end(payout.id, "failed")
                case "takes":
                    self.known[payout.id] = "pending"
                case _:
                    self.end(payout.id, "paid")
        match self.submits:
            case "lost_after":
                raise TimeoutError
            case "unclear":
                raise Unclear("status 500")
            case "dies":
                raise asyncio.CancelledError
        return self._said(payout.id)

    async def query(self, payout_id: UUID) -> Said | None:
        if self.answers == "lost":
            raise ConnectionResetError
        return self._said(payout_id) if payout_id in self.known else None

    async def close(self) -> None:
        return None

    def _said(self, payout_id: UUID) -> Said:
        status: Any = self.known[payout_id]
        return Said(status, "T" if status == "paid" else None)


@dataclass
class Model:
    amount: int
    status: str = "pending"
    way: str = ""
    sent: bool = False
    stuck: bool = False
    by_hand: bool = False


class OneWallet(RuleBasedStateMachine):
    """A wallet of 1,000 THB and whatever is asked of it."""

    def __init__(
        self, stage: Stage, doors: dict[str, Withdrawals], bank: ScriptedBank, account: tuple[UUID, UUID]
    ) -> None:
        super().__init__()
        self.stage, self.doors, self.bank = stage, doors, bank
        self.user, self.account = account
        self.actor = acting(self.user)
        self.own: dict[UUID, Model] = {}
        self.free, self.held = 0, 0

    @initialize(begun=st.sampled_from(["no", "asked", "gateway", "manual"]))
    def fund(self, begun: str) -> None:
        (row,) = self.stage.sql(
            "SELECT coalesce(sum(balance) FILTER (WHERE kind = 'wallet'), 0)::bigint AS free, coalesce(sum(balance) FILTER (WHERE kind = 'payout_pending'), 0)::bigint AS held FROM ledger_account WHERE owner_id = $1",
            self.user,
        )
        self.free, self.held = row["free"], row["held"]
        if self.free < FUNDS:
            self.stage.run(earned(self.stage, self.user, FUNDS - self.free))
            self.free = FUNDS
        if begun != "no":
            self.request(20_000, False)
        if begun in self.doors:
            self.decide(0, WithdrawalAction.PROCESS, begun, False)

    def pick(self, number: int, status: str | None = None) -> tuple[UUID, Model]:
        """One of them; mostly one in this status, where there is any."""
        fit = [one for one in self.own.items() if one[1].status == status] if number else []
        among = fit or list(self.own.items())
        return among[number % len(among)]

    @precondition(lambda self: len(self.own) < 5)
    @rule(amount=st.integers(1, 60_000) | st.integers(MINIMUM, 20_000), again=st.booleans())
    def request(self, amount: int, again: bool) -> None:
        wanted, key = WithdrawalRequest(amount, self.account), str(uuid4())
        expected = (
            "INSUFFICIENT_AMOUNT" if amount < MINIMUM else "INSUFFICIENT_BALANCE" if amount > self.free else "done"
        )
        assert self.stage.run(word_of(self.doors["gateway"].request(self.actor, wanted, key))) == expected
        if expected == "done":
            (row,) = self.stage.sql(
                "SELECT id FROM withdrawals WHERE user_id = $1 ORDER BY requested_at DESC LIMIT 1", self.user
            )
            assert row["id"] not in self.own
            self.own[row["id"]] = Model(amount)
            self.free, self.held = self.free - amount, self.held + amount
        if again:
            assert self.stage.run(word_of(self.doors["gateway"].request(self.actor, wanted, key))) == expected

    @precondition(lambda self: self.own)
    @rule(
        number=which,
        action=st.sampled_from(list(WithdrawalAction)),
        way=st.sampled_from(["gateway", "manual"]),
        twice=st.booleans(),
    )
    def decide(self, number: int, action: WithdrawalAction, way: str, twice: bool) -> None:
        one, model = self.pick(number, "pending" if action in ("process", "reject") else "processing")
        legal = {
            "process": model.status == "pending",
            "reject": model.status == "pending",
        }.get(action, model.status == "processing" and (model.way == "manual" or model.stuck))
        move, key = WithdrawalMove(action, "because", "T-hand"), str(uuid4())
        for _ in range(2 if twice else 1):  # the same key: the same answer, and nothing happens again
            word = self.stage.run(word_of(self.doors[way].decide(ADMIN, one, move, key)))
            assert word == ("done" if legal else "INVALID_STATUS_TRANSITION")
        if not legal:
            return
        if action is WithdrawalAction.PROCESS:
            model.status, model.way = "processing", way
        else:
            model.by_hand = True
            self.ended(model, {"reject": "rejected", "complete": "completed", "fail": "failed"}[action])

    @precondition(lambda self: self.own)
    @rule(
        number=which,
        submits=st.sampled_from(["pays", "refuses", "takes", "lost_before", "lost_after", "unclear", "dies"]),
        answers=st.sampled_from(["pays", "lost"]),
    )
    def ask(self, number: int, submits: str, answers: str) -> None:
        """A job of the queue: of any withdrawal, at any time, as often as it likes."""
        one, model = self.pick(number, "processing")
        self.bank.submits, self.bank.answers = submits, answers
        heard = self.expected(one, model, submits, answers)
        self.stage.run(self.job(one))
        # A worker that died left its lease, which lapses.
        self.stage.sql("UPDATE withdrawals SET leased_until = clock_timestamp() WHERE leased_until IS NOT NULL")
        if heard == "paid":
            self.ended(model, "completed")
        elif heard == "failed":
            self.ended(model, "failed")

    async def job(self, one: UUID) -> None:
        task = asyncio.get_running_loop().create_task(self.stage.app.payouts.handle(str(one).encode()))
        await asyncio.wait({task})
        if not task.cancelled():
            task.result()

    def expected(self, one: UUID, model: Model, submits: str, answers: str) -> str | None:
        """What the worker clearly hears of the bank."""
        if model.status != "processing" or model.way != "gateway":
            return None
        if model.sent and (answers == "lost" or one in self.bank.known):
            return None if answers == "lost" else self.bank.known[one]
        model.sent = True
        if submits in ("lost_before", "lost_after", "unclear", "dies"):
            return None
        return self.bank.known.get(one, {"pays": "paid", "refuses": "failed", "takes": "pending"}[submits])

    @precondition(lambda self: self.own)
    @rule(number=which, status=st.sampled_from(["paid", "failed"]))
    def bank_makes_up_its_mind(self, number: int, status: str) -> None:
        one, _ = self.pick(number, "processing")
        if self.bank.known.get(one) == "pending":
            self.bank.end(one, status)

    @precondition(lambda self: self.own)
    @rule(number=which)
    def half_an_hour_goes_by(self, number: int) -> None:
        one, model = self.pick(number, "processing")
        if model.status == "processing":
            self.stage.sql(
                "UPDATE withdrawals SET processing_at = processing_at - interval '31 minutes' WHERE id = $1", one
            )
            model.stuck = True

    def ended(self, model: Model, status: str) -> None:
        model.status = status
        self.held -= model.amount
        if status != "completed":
            self.free += model.amount

    @invariant()
    def it_is_as_the_model_says(self) -> None:
        rows = self.stage.sql(
            "SELECT kind, balance FROM ledger_account WHERE owner_id = $1 AND kind IN ('wallet', 'payout_pending')",
            self.user,
        )
        found = {row["kind"]: row["balance"] for row in rows}
        assert (found.get("wallet", 0), found.get("payout_pending", 0)) == (self.free, self.held)
        rows = self.stage.sql(
            """SELECT w.id, w.status, (SELECT array_agg(t.kind ORDER BY t.id) FROM ledger_txn t WHERE t.ref = 'wd:' || w.id) AS kinds
               FROM withdrawals w WHERE w.id = ANY ($1::uuid[])""",
            list(self.own),
        )
        ends = {"pending": [], "processing": [], "completed": ["withdrawal_paid"]}
        for row in rows:
            model = self.own[row["id"]]
            assert row["status"] == model.status
            assert row["kinds"] == ["withdrawal_hold", *ends.get(model.status, ["withdrawal_release"])]
            assert self.bank.paid[row["id"]] <= 1, "paid twice"
            if not model.by_hand and model.status in ("completed", "failed"):
                assert self.bank.paid[row["id"]] == (model.status == "completed"), "the bank's word, and no guess"


async def earned(stage: Stage, user: UUID, amount: int) -> None:
    async with stage.app.pg.system_tx() as tx:
        before = await purse(tx, user, "THB")
        await post(tx, "earning", f"test:{uuid4()}", "THB", credited(before, amount, Kind.RIDE_CLEARING))


@pytest.fixture
def stage(database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    @asynccontextmanager
    async def idle(self: Consumer, *, grace_s: float) -> AsyncIterator[None]:
        yield

    # The machine is the queue: it gives jobs when and as often as it likes.
    monkeypatch.setattr(Consumer, "consuming", idle)
    secret = {"payout_by": "http", "payout_url": "http://127.0.0.1:9", "payout_secret": "x"}
    with stage_of(database_url, redis_url, **secret) as opened:
        yield opened


def test_withdrawals_are_as_the_model_says(stage: Stage) -> None:
    app, bank = stage.app, ScriptedBank()
    app.payouts._door = bank
    app.payouts._submitting = app.payouts._querying = Breaker(SystemClock(), failures=10**9)
    vault = Vault.of(stage.server.settings)
    doors = {
        way: Withdrawals(
            app.pg,
            app.inbox,
            Notifications(),
            Idempotency(app.pg),
            vault,
            Wallets(app.pg, Markets.load()),
            minimum_minor=MINIMUM,
            way=PaidBy(way),
        )
        for way in ("gateway", "manual")
    }
    stage.sql("INSERT INTO users (id) VALUES ($1)", ADMIN.user_id)
    ((user, provider),) = stage.providers(1)
    account, document = uuid4(), uuid4()
    stage.sql(
        """INSERT INTO provider_documents (id, provider_id, user_id, document_type, storage_path, content_type, size_bytes, sha256, status)
           VALUES ($1, $2, $3, 'bank_account', 'x', 'image/png', 1, 'x', 'approved')""",
        document,
        provider,
        user,
    )
    stage.sql(
        """INSERT INTO bank_accounts (id, provider_id, user_id, bank_code, account_name, sealed, key_id, last_four, document_id)
           VALUES ($1, $2, $3, 'SCB', 'x', $4, $5, '7890', $6)""",
        account,
        provider,
        user,
        vault.seal(account, NUMBER),
        vault.key_id,
        document,
    )
    run_state_machine_as_test(
        lambda: OneWallet(stage, doors, bank, (user, account)),
        settings=settings(MACHINE, max_examples=60, stateful_step_count=25, derandomize=True),
    )
    seen = {row["status"] for row in stage.sql("SELECT DISTINCT status FROM withdrawals")}
    assert bank.known and len(seen - {"pending"}) >= 2, "it has been somewhere, wherever chance led it"
