"""The books compared: clean where they are, and each way of breaking them is found and named."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import orjson
import pytest

from dispatch.books import BadExport, read_export, reconciled, stated
from dispatch.kit.clock import SystemClock
from dispatch.ledger import Account, Kind, Leg
from tests.ledger.shelf import CLEARING, FEE, Shelf, shelf_at, wallet


@pytest.fixture
async def shelf(database_url: str) -> AsyncIterator[Shelf]:
    async with shelf_at(database_url) as opened:
        yield opened


async def report(url: str, **given: object) -> tuple[int, list[dict[str, object]], dict[str, object]]:
    """(exit code, differences, summary)."""
    lines: list[str] = []
    code = await reconciled(url, lines.append, **given)  # type: ignore[arg-type]
    *found, last = [orjson.loads(line) for line in lines]
    return code, found, last["summary"]


async def test_books_in_order_are_clean_also_under_load(shelf: Shelf, database_url: str) -> None:
    people = [uuid4() for _ in range(5)]
    stop = asyncio.Event()

    async def work(n: int) -> int:
        done = 0
        while not stop.is_set():
            await shelf.post(f"{n}:{done}", [Leg(CLEARING, wallet(people[n]), 10), Leg(CLEARING, FEE, 2)])
            done += 1
        return done

    async with asyncio.TaskGroup() as group:
        hands = [group.create_task(work(n)) for n in range(5)]
        for _ in range(5):
            code, found, summary = await report(database_url)
            assert (code, found) == (0, [])
        stop.set()
    _, _, summary = await report(database_url)
    assert summary["txns"] == sum(hand.result() for hand in hands)
    assert summary["entries"] == 4 * summary["txns"]
    assert summary["open"] == [{"account": "ride_clearing", "asset": "THB", "minor": -12 * summary["txns"]}]


BREAKS = {
    "a": "UPDATE ledger_account SET balance = balance + 1 WHERE kind = 'wallet'",
    "b": "UPDATE ledger_account SET version = version + 1 WHERE kind = 'wallet'",
    "c": "INSERT INTO ledger_txn (kind, idem_key, req_hash) VALUES ('x', 'empty', '')",
    "c (a leg)": "UPDATE ledger_entry SET amount = amount + 1, balance_after = balance_after + 1 WHERE amount > 0 AND seq = 1",
    "c (a half)": "DELETE FROM ledger_entry WHERE amount < 0",
    "d": "UPDATE ledger_account SET balance = balance + 1 WHERE kind = 'platform_fee'",
    "e": "UPDATE ledger_entry SET balance_before = balance_before + 5, balance_after = balance_after + 5 WHERE seq = 2",
    "e (a hole)": "UPDATE ledger_entry SET seq = 7 WHERE seq = 2 AND owner_id IS NOT NULL",
    "h": "INSERT INTO ledger_account (kind, owner_id, asset, balance, version, min_balance, expires_at) "
    "VALUES ('partner_lot', gen_random_uuid(), 'PCREDIT', 3, 0, 0, now() - interval '3 days')",
}


@pytest.mark.parametrize("broken", BREAKS)
async def test_each_way_of_breaking_the_books_is_found(shelf: Shelf, database_url: str, broken: str) -> None:
    owner = uuid4()
    for n in range(2):
        await shelf.post(f"{n}", [Leg(CLEARING, wallet(owner), 10), Leg(CLEARING, FEE, 2)])
    conn = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
    try:
        for table in ("ledger_entry", "ledger_txn"):
            await conn.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
        await conn.execute(BREAKS[broken])
    finally:
        await conn.close()
    code, found, summary = await report(database_url)
    assert code == 1
    assert broken[0] in {one["check"] for one in found}, found
    assert summary["differences"] == len(found)


async def test_a_bank_that_knows_less_or_more_than_we_do_is_a_difference(
    shelf: Shelf, database_url: str, tmp_path: Path
) -> None:
    owner = uuid4()
    await shelf.fund(owner, 100_000)
    for name, amount in (("wd:paid", 30_000), ("wd:other-amount", 20_000), ("wd:on-its-way", 10_000)):
        await shelf.post(f"{name}:resolve", [Leg(wallet(owner), Account(Kind.BANK_CLEARING), amount)], ref=name)
    lines = [("wd:paid", -10_000), ("wd:paid", -20_000), ("wd:other-amount", -19_999), ("wd:unknown", -5)]
    file = tmp_path / "bank.jsonl"
    file.write_text(
        "\n".join(
            orjson.dumps({"account": "bank_clearing", "ref": ref, "currency": "THB", "amount_minor": amount}).decode()
            for ref, amount in lines
        )
    )
    code, found, summary = await report(database_url, export=read_export(file))
    assert code == 1
    assert sorted((one["check"], one["ref"]) for one in found) == [("i", "wd:other-amount"), ("i", "wd:unknown")]
    assert summary["compared_with_export"] == ["bank_clearing"]


async def test_a_tip_on_a_fare_that_is_settled_may_be_on_its_way(shelf: Shelf, database_url: str) -> None:
    """The fare came a week ago and the list has it; the tip of today is under the same reference, and not yet late."""
    owner = uuid4()
    for key, amount in (("job:1:earning", 100), ("tip:1", 20)):
        await shelf.post(key, [Leg(CLEARING, wallet(owner), amount)], ref="job:1")
    conn = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
    try:
        await conn.execute("ALTER TABLE ledger_entry DISABLE TRIGGER USER")
        await conn.execute("UPDATE ledger_entry SET at = at - interval '8 days' WHERE abs(amount) = 100")
        for known, clean in ((100, True), (120, True), (110, False), (0, False), (20, False)):
            export = {Kind.RIDE_CLEARING: {("job:1", "THB"): known}}
            code, found, _ = await report(database_url, export=export)
            assert ([one["check"] for one in found] == []) is clean, (known, found)
        assert (await report(database_url, export={Kind.RIDE_CLEARING: {}}))[0] == 1, "the fare itself is late"
        await conn.execute("UPDATE ledger_entry SET at = at - interval '8 days'")
    finally:
        await conn.close()
    code, found, _ = await report(database_url, export={Kind.RIDE_CLEARING: {("job:1", "THB"): 100}})
    assert (code, [one["posted"] for one in found]) == (1, [-120]), "now the tip is late too"


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ('{"account": "wallet", "ref": "x", "currency": "THB", "amount_minor": 1}', "no clearing account"),
        ('{"account": "bank_clearing", "ref": "x", "currency": "THB", "amount_minor": 1.5}', "amount_minor"),
        ('{"account": "bank_clearing", "ref": "x", "currency": "baht", "amount_minor": 1}', "currency"),
        ("not json", "line 2"),
        ('{"account": "bank_clearing", "ref": "\udca1", "currency": "THB", "amount_minor": 1}', "line 2"),
    ],
)
def test_a_bad_line_of_an_export_is_named(tmp_path: Path, line: str, problem: str) -> None:
    file = tmp_path / "bank.jsonl"
    file.write_text(
        '{"account": "bank_clearing", "ref": "x", "currency": "THB", "amount_minor": 1}\n' + line,
        errors="surrogateescape",
    )
    with pytest.raises(BadExport, match=problem):
        read_export(file)


async def test_a_statement_lists_what_somebody_had(shelf: Shelf, database_url: str) -> None:
    owner = uuid4()
    await shelf.fund(owner, 500)
    between = SystemClock().now()
    await shelf.post("hold", [Leg(wallet(owner), Account(Kind.PAYOUT_PENDING, owner), 200)])
    for at, expected in (
        (between, {"wallet": 500, "payout_pending": 0}),
        (SystemClock().now(), {"wallet": 300, "payout_pending": 200}),
    ):
        lines: list[str] = []
        assert await stated(database_url, lines.append, owner, at, note=lines.append) == 0
        assert {one["account"]: one["balance_minor"] for one in map(orjson.loads, lines)} == expected
