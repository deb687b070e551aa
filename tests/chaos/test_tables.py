"""What the tables are asked at the end of a run: withdrawals, kept answers, declines, suspensions, and jobs that nobody will move."""

from typing import Any

import asyncpg
import pytest

from bench.faults.checkers import Violation
from bench.faults.history import Final, History, Kept, Offer, Op, Withdrawal, digest
from bench.faults.reads import GONE_S, STUCK, STUCK_S, final, kept_of, wall_ns, withdrawal_of
from bench.faults.tables import judge_tables, said
from tests.support.crowd import crowd, lone_job, offer
from tests.support.server import serving

ASKED = {"amount_minor": 500, "bank_account_id": "b", "currency": "THB"}
ANSWER = {"id": "w1", "withdrawal_id": "w1"}


def op(kind: Any, key: str, word: str = "ok", **more: Any) -> Op:
    given: dict[str, Any] = {"at": 10, "done": 20, "client": "c", "user": "u", "kind": kind, "key": key, "word": word}
    return Op(**(given | more))


def kept(key: str, answer: Any = None, *, at: int = 15, withdrawal: str = "", user: str = "u") -> Kept:
    return Kept(user=user, key=key, at=at, answer=said(answer or {}), withdrawal=withdrawal)


def withdrawal(id: str = "w1", **more: Any) -> Withdrawal:
    given: dict[str, Any] = {
        "id": id,
        "user": "u",
        "amount": 500,
        "currency": "THB",
        "asked": digest("withdraw", ASKED),
    }
    return Withdrawal(**(given | more))


def found(ops: list[Op], **final: Any) -> list[Violation]:
    return judge_tables(History(ops=ops, final=Final(at=0, **final)))


ASK = op("withdraw", "k", body=digest("withdraw", ASKED), answer=said(ANSWER))
KEPT = kept("k", ANSWER, withdrawal="w1")


def test_a_withdrawal_that_is_as_it_was_told_is_fine() -> None:
    refused = op("withdraw", "k2", "INSUFFICIENT_BALANCE")
    assert found([ASK, ASK, refused], kept=[KEPT], withdrawals=[withdrawal()]) == []


@pytest.mark.parametrize(
    ("invariant", "ops", "tables"),
    [
        pytest.param("I3", [ASK], {"kept": [KEPT]}, id="told and not there"),
        pytest.param("I3", [ASK], {"kept": [KEPT], "withdrawals": [withdrawal(asked="other")]}, id="another amount"),
        pytest.param("I3", [ASK], {"kept": [KEPT], "withdrawals": [withdrawal(user="v")]}, id="somebody else's"),
        pytest.param(
            "I10", [ASK], {"kept": [KEPT], "withdrawals": [withdrawal(), withdrawal("w2")]}, id="one too many"
        ),
        pytest.param(
            "I10",
            [ASK],
            {"kept": [KEPT, kept("k2", ANSWER, withdrawal="w1")], "withdrawals": [withdrawal()]},
            id="of two keys",
        ),
        pytest.param(
            "I10",
            [ASK],
            {"kept": [KEPT, kept("k9", withdrawal="w9")], "withdrawals": [withdrawal(), withdrawal("w9")]},
            id="of a key that nobody sent",
        ),
        pytest.param(
            "I10",
            [op("withdraw", "k", "INSUFFICIENT_BALANCE")],
            {"kept": [KEPT], "withdrawals": [withdrawal()]},
            id="refused and made",
        ),
        pytest.param("I10", [op("suspend", "k", target="v")], {}, id="nothing kept"),
        pytest.param(
            "I10", [op("online", "k", answer=said({"a": 1}))], {"kept": [kept("k", {"a": 2})]}, id="other words"
        ),
        pytest.param("I3", [op("decline", "k", offer="o")], {"kept": [kept("k")]}, id="declined and not there"),
        pytest.param(
            "I3", [op("suspend", "k", target="v")], {"kept": [kept("k")], "providers": {"v": "active"}}, id="suspended"
        ),
        pytest.param(
            "I3",
            [op("suspend", "k", target="v"), op("reinstate", "l", at=30, done=40, target="v")],
            {"kept": [kept("k"), kept("l")], "providers": {"v": "suspended"}},
            id="taken back",
        ),
    ],
)
def test_each_lie_is_found(invariant: str, ops: list[Op], tables: dict[str, Any]) -> None:
    assert [one.invariant for one in found(ops, **tables)][:1] == [invariant]


def test_what_may_be_either_way_is_not_judged() -> None:
    late = op("withdraw", "k", "INSUFFICIENT_BALANCE", done=12)
    fine = {"kept": [KEPT], "withdrawals": [withdrawal()]}
    assert found([late], **fine) == [], "a sending that was still on its way"
    assert found([op("withdraw", "k", "unknown")], **fine) == []
    at_once = [op("suspend", "k", target="v", done=50), op("reinstate", "l", at=30, done=40, target="v")]
    assert found(at_once, kept=[kept("k"), kept("l")], providers={"v": "suspended"}) == []


def test_a_decline_that_stands_is_fine() -> None:
    row = Offer(id="o", job="j", round=1, user="u", status="declined", at=1, expires=9)
    assert found([op("decline", "k", offer="o", answer=said({}))], kept=[kept("k")], offers=[row]) == []


def test_rows_are_read_as_clients_are_told() -> None:
    """A job's answer is the same in either door's words."""
    assert said({"success": True, "job": {"id": 1}}) == said({"id": 1})
    at = wall_ns(None)
    row = {"user_id": "u", "key": "k", "response": '{"id":"w1","withdrawal_id":"w1"}', "at": None}
    assert kept_of(row) == kept("k", ANSWER, at=at, withdrawal="w1")
    given = {"id": "w1", "user_id": "u", "bank_account_id": "b", "amount_minor": 500, "currency": "THB"}
    assert withdrawal_of(given) == withdrawal()


LATE = "clock_timestamp() - interval '2 minutes'"
WAYS = {
    "next search never": "UPDATE jobs SET next_search_at = NULL WHERE id = $1",
    "next search": f"UPDATE jobs SET next_search_at = {LATE} WHERE id = $1",
    "on offer to nobody": "UPDATE jobs SET next_search_at = clock_timestamp() + interval '30 s' WHERE id = $1",
    "which expired": f"UPDATE offers SET expires_at = {LATE} WHERE job_id = $2",
    "is live": f"WITH old AS (UPDATE job_events SET at = {LATE} WHERE job_id = $2) UPDATE jobs SET status = 'cancelled', cancelled_at = {LATE} WHERE id = $2",
    "has live offer": f"{{taken}}, accepted_at = {LATE} WHERE id = $1",
    "has been gone": f"WITH gone AS (UPDATE sockets SET lost_at = {LATE}), was AS (UPDATE provider_gate SET changed_at = {LATE}) {{taken}}, accepted_at = {LATE} WHERE id = $1",
    "is suspended": "WITH was AS (UPDATE provider_gate SET status = 'suspended') {taken}, accepted_at = clock_timestamp() WHERE id = $1",
}  # fmt: skip
TAKEN = (
    "UPDATE jobs SET status = 'accepted', provider_id = (SELECT provider_id FROM offers WHERE job_id = $2), "
    "provider_user_id = (SELECT provider_user_id FROM offers WHERE job_id = $2)"
)


async def test_every_way_to_be_stuck_is_seen_and_nothing_else(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url) as server:
        racers = await crowd(server, 1)
        lone, offered = await lone_job(server), await lone_job(server)
        await offer(server, offered, racers)
        conn = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
        try:
            await conn.execute("UPDATE offers SET offered_at = offered_at - interval '5 minutes'")
            assert (await final(conn)).stuck == []
            for said_so, sql in WAYS.items():
                change = conn.transaction()
                await change.start()
                await conn.execute(sql.format(taken=TAKEN) + _both(sql.format(taken=TAKEN)), lone, offered)
                rows = [row[0] for row in await conn.fetch(STUCK, STUCK_S, GONE_S)]
                await change.rollback()
                assert any(said_so in row for row in rows), (said_so, rows)
                assert all(row.split()[0] in (str(lone), str(offered)) for row in rows)
        finally:
            await conn.close()


def _both(sql: str) -> str:
    """Both jobs are given, and Postgres wants to know of what type."""
    return "" if "$1" in sql and "$2" in sql else f" AND ${1 + ('$1' in sql)}::uuid IS NOT NULL"
