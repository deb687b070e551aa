"""What the ledger promises, against a pure model, many hands at once, and hostile input. Numbers are those of the design's list of properties."""

import asyncio
import random
from collections.abc import AsyncIterator, Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dispatch.kit.clock import SystemClock
from dispatch.kit.errors import KeyReused
from dispatch.kit.postgres import Actor
from dispatch.ledger import (
    Account,
    AlreadyReversed,
    BadLeg,
    InsufficientBalance,
    Kind,
    Leg,
    charged,
    configure,
    credited,
    post,
    purse,
    statement,
)
from tests.ledger.shelf import CLEARING, FEE, THB, Model, Shelf, shelf_at, wallet

EXAMPLES = settings(
    max_examples=100,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
FLOORS = {Kind.WALLET: 0, Kind.PAYOUT_PENDING: 0, Kind.PROVIDER_DEBT: -50_000}


@pytest.fixture
async def shelf(database_url: str) -> AsyncIterator[Shelf]:
    async with shelf_at(database_url) as opened:
        async with opened.pg.system() as conn:
            await configure(conn, debt_limit_minor=50_000)
        yield opened


# 1


@st.composite
def batches(draw: st.DrawFn) -> list[tuple[str, list[Leg]]]:
    owners = [uuid4() for _ in range(3)]  # fresh ones: examples share the database
    accounts = [Account(kind, owner) for owner in owners for kind in FLOORS] + [CLEARING, FEE]
    account = st.sampled_from(accounts)
    leg = st.builds(Leg, account, account, st.one_of(st.integers(1, 60_000), st.sampled_from([0, -1])))
    keys = [str(uuid4()) for _ in range(6)]
    return draw(st.lists(st.tuples(st.sampled_from(keys), st.lists(leg, max_size=4)), min_size=1, max_size=12))


@EXAMPLES
@given(batch=batches())
async def test_1_random_batches_do_as_the_model_does(shelf: Shelf, batch: list[tuple[str, list[Leg]]]) -> None:
    model = Model(FLOORS)
    for key, legs in batch:
        said = model.post(key, legs)
        try:
            done = await shelf.post(key, legs)
            came = "replayed" if done.replayed else "posted"
        except BadLeg:
            came = "bad"
        except InsufficientBalance:
            came = "floor"
        except KeyReused:
            came = "reused"
        assert came == said, (key, legs)
    for account, balance in model.balances.items():
        if account.owner_id is not None:
            assert (await shelf.balances(account.owner_id)).get(str(account.kind), 0) == balance
    assert await shelf.differences() == []


# 2


async def test_2_sixteen_hands_move_money_back_and_forth_without_a_deadlock(shelf: Shelf) -> None:
    people = [uuid4() for _ in range(6)]
    for person in people:
        await shelf.fund(person, 100_000)
    fell = 0

    async def hand(number: int) -> None:
        nonlocal fell
        dice = random.Random(number)
        for turn in range(250):
            a, b = dice.sample(people, 2)
            legs = [Leg(wallet(a), wallet(b), dice.randint(1, 40_000))]
            if dice.random() < 0.3:
                legs.append(Leg(wallet(b), FEE, dice.randint(1, 500)))
            try:
                await shelf.post(f"{number}:{turn}", legs)
            except InsufficientBalance:
                fell += 1

    await asyncio.gather(*(hand(number) for number in range(16)))
    assert 0 < fell < 4000
    left = [(await shelf.balances(person))["wallet"] for person in people]
    assert min(left) >= 0
    assert sum(left) + await shelf.total(Kind.PLATFORM_FEE) == 600_000
    async with shelf.pg.system() as conn:
        assert await conn.fetchval("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
    assert await shelf.differences() == []


# 3, 4


async def test_3_one_key_posts_once_however_many_ask(shelf: Shelf) -> None:
    owner = uuid4()
    done = await asyncio.gather(*(shelf.post("job:1:earning", [Leg(CLEARING, wallet(owner), 100)]) for _ in range(20)))
    assert sorted(one.replayed for one in done) == [False] + [True] * 19
    assert len({one.txn_id for one in done}) == 1
    assert await shelf.balances(owner) == {"wallet": 100}


async def test_4_a_key_stands_for_one_request(shelf: Shelf) -> None:
    owner = uuid4()
    await shelf.post("k", [Leg(CLEARING, wallet(owner), 100)], asked={"a": 1})
    # What was asked counts, not the legs: they depend on balances.
    assert (await shelf.post("k", [Leg(CLEARING, wallet(owner), 90)], asked={"a": 1})).replayed
    for changed in ({"asked": {"a": 2}}, {"asked": {"a": 1}, "kind": "other"}, {"asked": {"a": 1}, "asset": "USD"}):
        with pytest.raises(KeyReused):
            await shelf.post("k", [Leg(CLEARING, wallet(owner), 100)], **changed)  # type: ignore[arg-type]
    assert await shelf.balances(owner) == {"wallet": 100}


# 5


async def test_5_a_balance_of_1000_gives_300_exactly_three_times(shelf: Shelf) -> None:
    owner = uuid4()
    await shelf.fund(owner, 1_000)

    async def take(n: int) -> bool:
        try:
            await shelf.post(f"wd:{n}:hold", [Leg(wallet(owner), Account(Kind.PAYOUT_PENDING, owner), 300)])
        except InsufficientBalance:
            return False
        return True

    assert sum(await asyncio.gather(*(take(n) for n in range(20)))) == 3
    assert await shelf.balances(owner) == {"wallet": 100, "payout_pending": 900}


# 6


async def test_6_what_is_posted_stays_and_is_reversed_once(shelf: Shelf) -> None:
    owner = uuid4()
    first = await shelf.post("e", [Leg(CLEARING, wallet(owner), 100)])
    back = [Leg(wallet(owner), CLEARING, 100)]
    tries = await asyncio.gather(
        *(shelf.post(f"r{n}", back, reverses=first.txn_id) for n in range(5)), return_exceptions=True
    )
    assert sum(isinstance(one, AlreadyReversed) for one in tries) == 4
    assert await shelf.balances(owner) == {"wallet": 0}


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE ledger_entry SET amount = amount + 1",
        "DELETE FROM ledger_entry",
        "TRUNCATE ledger_entry",
        "UPDATE ledger_txn SET kind = 'gift'",
        "DELETE FROM ledger_txn",
        "TRUNCATE ledger_txn CASCADE",
    ],
)
async def test_6_not_even_a_superuser_rewrites_the_ledger(shelf: Shelf, database_url: str, change: str) -> None:
    await shelf.fund(uuid4(), 100)
    conn = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
    try:
        for replica in ("origin", "replica"):  # a session that replays replication skips ordinary triggers
            await conn.execute(f"SET session_replication_role = {replica}")
            with pytest.raises(asyncpg.InsufficientPrivilegeError, match="append-only"):
                await conn.execute(change)
    finally:
        await conn.close()
    assert await shelf.differences() == []


# 7


async def test_7_spenders_take_living_lots_soonest_end_first(shelf: Shelf) -> None:
    owner = uuid4()
    now = SystemClock().now()
    lots: list[int] = []
    async with shelf.pg.system_tx() as tx:
        source = await tx.fetchval("SELECT ledger_account_of('credit_issuance', NULL, 'PCREDIT')")
        for amount, days in ((4, 10), (3, 30), (5, None), (3, 20)):
            expires = now + (timedelta(days=days) if days else timedelta(milliseconds=300))
            lot = await tx.fetchval("SELECT ledger_lot_open('partner_lot', $1, 'PCREDIT', $2)", owner, expires)
            lots.append(lot)
            await tx.fetchval(
                "SELECT txn FROM ledger_post('grant', $1, '', ARRAY[$2]::bigint[], ARRAY[$3]::bigint[], ARRAY[$4]::bigint[], NULL, NULL, NULL)",
                f"grant:{lot}", source, lot, amount,
            )  # fmt: skip
    async with shelf.pg.system() as conn:
        while await conn.fetchval("SELECT expires_at > clock_timestamp() FROM ledger_account WHERE id = $1", lots[2]):
            await asyncio.sleep(0.02)

    async def spend(n: int) -> bool:
        async with shelf.pg.system_tx() as tx:
            found = await tx.fetch("SELECT account_id, amount FROM ledger_lots('partner_lot', $1, 'PCREDIT', 1)", owner)
            if not found:
                return False
            sink = await tx.fetchval("SELECT ledger_account_of('credit_redeemed', NULL, 'PCREDIT')")
            await tx.fetchval(
                "SELECT txn FROM ledger_post('spend', $1, '', ARRAY[$2]::bigint[], ARRAY[$3]::bigint[], ARRAY[1]::bigint[], NULL, NULL, NULL)",
                f"spend:{n}", found[0]["account_id"], sink,
            )  # fmt: skip
            return True

    async def left() -> list[int]:
        async with shelf.pg.system() as conn:
            return [await conn.fetchval("SELECT balance FROM ledger_account WHERE id = $1", lot) for lot in lots]

    assert [await spend(n) for n in range(5)] == [True] * 5
    assert await left() == [0, 3, 5, 2], "the lot of ten days went first, then that of twenty"
    assert sum(await asyncio.gather(*(spend(n) for n in range(5, 25)))) == 5
    assert await left() == [0, 0, 5, 0], "what had ended was not touched"
    with pytest.raises(asyncpg.PostgresError, match="LEDGER_BAD_LEG"):
        async with shelf.pg.system_tx() as tx:
            sink = await tx.fetchval("SELECT ledger_account_of('credit_redeemed', NULL, 'PCREDIT')")
            await tx.fetchval(
                "SELECT txn FROM ledger_post('spend', 'late', '', ARRAY[$1]::bigint[], ARRAY[$2]::bigint[], ARRAY[1]::bigint[], NULL, NULL, NULL)",
                lots[2], sink,
            )  # fmt: skip
    assert await shelf.differences() == []


# 8


async def test_8_an_account_is_made_once(shelf: Shelf) -> None:
    owner = uuid4()

    async def ask() -> int:
        async with shelf.pg.system() as conn:
            return int(await conn.fetchval("SELECT ledger_account_of('wallet', $1, 'THB')", owner))

    assert len(set(await asyncio.gather(*(ask() for _ in range(20))))) == 1
    async with shelf.pg.system() as conn:
        assert await conn.fetchval("SELECT count(*) FROM ledger_account WHERE owner_id = $1", owner) == 1


# 12: a card processor's events in whatever order and number


def _payment_flows(booking: UUID, provider: UUID) -> dict[str, tuple[str, list[Leg]]]:
    escrow = Account(Kind.BOOKING_ESCROW, booking)
    card = Account(Kind.STRIPE_CLEARING)
    return {
        "paid": ("pi:1", [Leg(card, escrow, 10_000)]),
        "released": ("booking:1:release", [Leg(escrow, wallet(provider), 8_000), Leg(escrow, FEE, 2_000)]),
        "tip": ("pi:2", [Leg(card, wallet(provider), 500)]),
    }


@EXAMPLES
@given(order=st.lists(st.sampled_from(["paid", "released", "tip"]), min_size=1, max_size=8))
async def test_12_events_in_any_order_and_number_end_in_the_same_balances(shelf: Shelf, order: list[str]) -> None:
    booking, provider, name = uuid4(), uuid4(), uuid4()
    flows = _payment_flows(booking, provider)
    waiting = [*order, "paid", "released", "tip"]
    while waiting:  # a receiver comes again with what could not be posted yet
        event = waiting.pop(0)
        key, legs = flows[event]
        try:
            await shelf.post(f"{name}:{key}", legs)
        except InsufficientBalance:
            assert event == "released"
            waiting.append(event)
    assert await shelf.balances(booking) == {"booking_escrow": 0}
    assert await shelf.balances(provider) == {"wallet": 8_500}


# 13


async def test_13_everybody_reads_his_own_entries_and_nobody_writes(shelf: Shelf) -> None:
    one, two = uuid4(), uuid4()
    await shelf.fund(one, 100)
    await shelf.fund(two, 200)

    async def sums(actor: Actor) -> dict[str, Any]:
        async with shelf.pg.acting(actor) as tx:
            return {
                "accounts": {row["owner_id"] for row in await tx.fetch("SELECT owner_id FROM ledger_account")},
                "entries": sorted(row["amount"] for row in await tx.fetch("SELECT amount FROM ledger_entry")),
                "txns": await tx.fetchval("SELECT count(*) FROM ledger_txn"),
            }

    assert await sums(Actor(one)) == {"accounts": {one}, "entries": [100], "txns": 0}
    assert await sums(Actor(uuid4())) == {"accounts": set(), "entries": [], "txns": 0}
    assert (await sums(Actor(uuid4(), frozenset({"admin"}))))["entries"] == [-200, -100, 100, 200]
    for actor in (Actor(one), Actor(one, frozenset({"admin"}))):
        for write in (
            "UPDATE ledger_account SET balance = 5",
            "INSERT INTO ledger_account (kind, owner_id, asset) VALUES ('wallet', gen_random_uuid(), 'THB')",
            "INSERT INTO ledger_txn (kind, idem_key, req_hash) VALUES ('x', 'x', '')",
            "INSERT INTO ledger_entry VALUES (1, 9, 1, 1, NULL, 5, 0, 5, now())",
            "DELETE FROM ledger_entry",
            "SELECT * FROM ledger_kind",
            "SELECT ledger_configure(0)",
            "SELECT ledger_can_owe(gen_random_uuid(), 'THB', 1)",
        ):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                async with shelf.pg.acting(actor) as tx:
                    await tx.execute(write)


async def test_13_only_the_owner_or_an_admin_takes_from_an_account(shelf: Shelf) -> None:
    owner, thief = uuid4(), uuid4()
    await shelf.fund(owner, 100)
    stolen = [Leg(wallet(owner), wallet(thief), 50)]
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        async with shelf.pg.acting(Actor(thief)) as tx:
            await post(tx, "theft", "t", THB, stolen)
    async with shelf.pg.acting(Actor(owner)) as tx:
        await post(tx, "gift", "g", THB, stolen)
    async with shelf.pg.acting(Actor(uuid4(), frozenset({"admin"}))) as tx:
        await post(tx, "order", "o", THB, stolen)
    # Giving is free, also where what he owes is paid off with it.
    async with shelf.pg.acting(Actor(thief)) as tx:
        await post(
            tx,
            "tip",
            "tip",
            THB,
            [Leg(CLEARING, wallet(owner), 10), Leg(wallet(owner), Account(Kind.PROVIDER_DEBT, owner), 4)],
        )
    assert await shelf.balances(owner) == {"wallet": 6, "provider_debt": 4}


# 14


@pytest.mark.parametrize("amount", [0, -1, 2**53 + 1, 2**63 - 1, -(2**63)])
async def test_14_hostile_amounts_change_nothing(shelf: Shelf, amount: int) -> None:
    owner = uuid4()
    await shelf.fund(owner, 100)
    for legs in (
        [Leg(CLEARING, wallet(owner), amount)],
        [Leg(CLEARING, wallet(owner), 5), Leg(CLEARING, wallet(owner), amount)],
    ):
        with pytest.raises(BadLeg):
            await shelf.post(str(uuid4()), legs)
    assert await shelf.balances(owner) == {"wallet": 100}
    assert await shelf.count("ledger_txn") == 1


@pytest.mark.parametrize(
    "legs",
    [
        [],
        [Leg(CLEARING, CLEARING, 5)],
        [Leg(Account(Kind.WALLET), FEE, 5)],
        [Leg(CLEARING, Account(Kind.PLATFORM_FEE, UUID(int=7)), 5)],
        [Leg(CLEARING, Account("no_such_kind", UUID(int=7)), 5)],  # type: ignore[arg-type]
    ],
    ids=["none", "onto itself", "a wallet of nobody", "a fee of somebody", "no kind"],
)
async def test_14_legs_that_cannot_be_are_bugs_and_change_nothing(shelf: Shelf, legs: Sequence[Leg]) -> None:
    with pytest.raises(BadLeg):
        await shelf.post("bad", legs)
    assert await shelf.count("ledger_txn") == 0


async def test_14_a_leg_does_not_turn_one_currency_into_another(shelf: Shelf) -> None:
    owner = uuid4()
    await shelf.fund(owner, 100)
    await shelf.fund(owner, 100, asset="USD")
    async with shelf.pg.system() as conn:
        baht, dollars = [
            row["id"]
            for row in await conn.fetch("SELECT id FROM ledger_account WHERE owner_id = $1 ORDER BY asset", owner)
        ]
    for src, dst, amount in (
        (baht, dollars, 5),
        (baht, None, 5),
        (None, baht, 5),
        (baht, 10**9, 5),
        (baht, baht, None),
    ):
        with pytest.raises(asyncpg.PostgresError, match="LEDGER_BAD_LEG"):
            async with shelf.pg.system_tx() as tx:
                await tx.fetch(
                    "SELECT * FROM ledger_post('x', 'x', '', ARRAY[$1]::bigint[], ARRAY[$2]::bigint[], ARRAY[$3]::bigint[], NULL, NULL, NULL)",
                    src, dst, amount,
                )  # fmt: skip
    with pytest.raises(asyncpg.PostgresError, match="LEDGER_BAD_LEG"):
        async with shelf.pg.system_tx() as tx:
            await tx.fetch(
                "SELECT * FROM ledger_post('x', 'x', '', ARRAY[$1]::bigint[], ARRAY[$2]::bigint[], '{1,2}', NULL, NULL, NULL)",
                baht, dollars,
            )  # fmt: skip


# The debt, the shards, the past


async def test_a_fee_takes_the_wallet_then_the_debt_then_nothing_more(shelf: Shelf) -> None:
    owner = uuid4()
    await shelf.fund(owner, 700)

    async def fee(key: str, amount: int) -> None:
        async with shelf.pg.system_tx() as tx:
            before = await purse(tx, owner, THB)
            await post(tx, "cash_fee", key, THB, charged(before, amount, Kind.PLATFORM_FEE, rest=Kind.FEE_WRITEOFF))

    await fee("a", 500)
    assert await shelf.balances(owner) == {"wallet": 200}
    await fee("b", 1_200)
    assert await shelf.balances(owner) == {"wallet": 0, "provider_debt": -1_000}
    await fee("c", 60_000)
    assert await shelf.balances(owner) == {"wallet": 0, "provider_debt": -50_000}
    assert await shelf.total(Kind.FEE_WRITEOFF) == -11_000
    assert await shelf.total(Kind.PLATFORM_FEE) == 61_700
    async with shelf.pg.system_tx() as tx:
        before = await purse(tx, owner, THB)
        await post(tx, "earning", "d", THB, credited(before, 50_300, Kind.RIDE_CLEARING))
    assert await shelf.balances(owner) == {"wallet": 300, "provider_debt": 0}
    assert await shelf.differences() == []


async def test_a_lower_limit_leaves_what_is_owed_and_lets_nobody_owe_more(shelf: Shelf) -> None:
    deep, shallow = uuid4(), uuid4()
    for owner, owed in ((deep, 40_000), (shallow, 100)):
        await shelf.post(f"fee:{owner}", [Leg(Account(Kind.PROVIDER_DEBT, owner), FEE, owed)])
    async with shelf.pg.system() as conn:
        await configure(conn, debt_limit_minor=10_000)
        assert not await conn.fetchval("SELECT ledger_can_owe($1, 'THB', 1)", deep)
        assert await conn.fetchval("SELECT ledger_can_owe($1, 'THB', 9900)", shallow)
        assert not await conn.fetchval("SELECT ledger_can_owe($1, 'THB', 9901)", shallow)
        assert await conn.fetchval("SELECT ledger_can_owe($1, 'THB', 10000)", uuid4())
        assert not await conn.fetchval("SELECT ledger_can_owe($1, 'THB', 10001)", uuid4())
    with pytest.raises(InsufficientBalance):
        await shelf.post("more", [Leg(Account(Kind.PROVIDER_DEBT, deep), FEE, 1)])
    await shelf.post("back", [Leg(FEE, Account(Kind.PROVIDER_DEBT, deep), 35_000)])
    async with shelf.pg.system_tx() as tx:
        assert await tx.fetchval("SELECT ledger_can_owe($1, 'THB', 5000)", deep)
        assert not await tx.fetchval("SELECT ledger_can_owe($1, 'THB', 5001)", deep), "what is paid back stays so"
        assert (await purse(tx, deep, THB)).owed_max_minor == 10_000
    async with shelf.pg.system() as conn:
        await configure(conn, debt_limit_minor=10_000)
    with pytest.raises(InsufficientBalance):
        await shelf.post("beyond", [Leg(Account(Kind.PROVIDER_DEBT, deep), FEE, 5_001)])


async def test_the_platforms_accounts_are_spread_over_shards(shelf: Shelf) -> None:
    await asyncio.gather(*(shelf.fund(uuid4(), 10) for _ in range(200)))
    async with shelf.pg.system() as conn:
        shards = await conn.fetchval("SELECT count(*) FROM ledger_account WHERE kind = 'ride_clearing'")
    assert shards > 4
    assert await shelf.total(Kind.RIDE_CLEARING) == -2_000


async def test_any_past_balance_can_be_read(shelf: Shelf) -> None:
    owner = uuid4()
    moments = []
    for n, amount in enumerate((100, 250, 30)):
        await shelf.post(f"in:{n}", [Leg(CLEARING, wallet(owner), amount)])
        async with shelf.pg.system() as conn:
            moments.append(await conn.fetchval("SELECT clock_timestamp()"))
    async with shelf.pg.system() as conn:
        for moment, expected in zip(moments, (100, 350, 380), strict=True):
            (held,) = await statement(conn, owner, moment)
            assert (held.balance_minor, held.kind) == (expected, "wallet")
        (held,) = await statement(conn, owner, moments[0] - timedelta(days=1))
        assert (held.balance_minor, held.entries) == (0, 0)
