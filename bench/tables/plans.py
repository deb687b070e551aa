"""What a statement really read: its plans, with those of the functions that it calls, and the rows that they looked at."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import asyncpg
import orjson

from bench.tables.history import TABLES
from dispatch.kit.postgres import Actor

WHOLE: Final = 0.5
"""A plan that reads this share of a table is taken to read all of it."""
LINES_MAX: Final = 40
"""Of the plans of one statement on a page; an accept has thirty."""

EXPLAIN: Final = """
LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on; SET auto_explain.log_analyze = on;
SET auto_explain.log_buffers = on; SET auto_explain.log_format = 'json'; SET client_min_messages = log
"""


async def explained(
    judge: "asyncpg.Connection[Any]", actor: Actor | None, query: str, arguments: Sequence[Any]
) -> list[dict[str, Any]]:
    """The plans that were run, nested functions' included, in the order of their ends; nothing of it stays. `actor`: None for the
    server's own role. `judge` is a superuser.
    """
    said: list[str] = []

    def heard(_: object, message: Any) -> None:
        said.append(message.message)

    await judge.execute(EXPLAIN)
    judge.add_log_listener(heard)
    try:
        transaction = judge.transaction()
        await transaction.start()
        try:
            await judge.execute(f"SET LOCAL ROLE {'dispatch_system' if actor is None else 'dispatch_app'}")
            if actor is not None:
                await judge.execute("SELECT set_config('app.user_id', $1, true)", str(actor.user_id))
                await judge.execute("SELECT set_config('app.admin', $1, true)", "on" if actor.admin else "")
            said.clear()
            await judge.fetch(query, *arguments)
        finally:
            await transaction.rollback()
    finally:
        judge.remove_log_listener(heard)
        await judge.execute("SET auto_explain.log_min_duration = -1; SET client_min_messages = notice")
    texts = [text.partition("plan:\n")[2] for text in said if "plan:\n" in text]
    return [orjson.loads(text) for text in texts]


def nodes(plan: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A plan's nodes, outer ones first. Pure."""
    yield plan
    for below in plan.get("Plans", ()):
        yield from nodes(below)


def touching(plans: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those that look at a table: not, say, a view of each row that was found. Pure."""
    return [one for one in plans if any("Relation Name" in node for node in nodes(one["Plan"]))]


def rows_read(plans: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Rows that were looked at, by table, those that a filter threw away among them. Pure."""
    found: dict[str, float] = {}
    for one in plans:
        for node in nodes(one["Plan"]):
            if (table := node.get("Relation Name")) is not None and node["Node Type"] != "ModifyTable":
                each = sum(
                    node.get(key, 0)
                    for key in ("Actual Rows", "Rows Removed by Filter", "Rows Removed by Index Recheck")
                )
                found[table] = found.get(table, 0) + each * node["Actual Loops"]
    return {table: round(rows) for table, rows in found.items()}


def whole(read: Mapping[str, int], rows: Mapping[str, int]) -> list[str]:
    """The tables of the history of which so many rows were read that it is as good as all. Pure."""
    return [table for table in TABLES if read.get(table, 0) >= WHOLE * max(rows[table], 1)]


def blocks(plans: Sequence[Mapping[str, Any]]) -> int:
    """Pages that were looked at. A function's own plans are inside the statement that called it, so the largest counts. Pure."""
    return max(
        (one["Plan"].get("Shared Hit Blocks", 0) + one["Plan"].get("Shared Read Blocks", 0) for one in plans), default=0
    )


def drawn(plan: Mapping[str, Any], depth: int = 0) -> Iterator[str]:
    """A plan as lines for people. Pure."""
    where = " ".join(str(plan[key]) for key in ("Index Name", "Relation Name") if key in plan)
    removed = plan.get("Rows Removed by Filter", 0)
    yield (
        f"{'  ' * depth}{plan['Node Type']} {where} · rows {plan['Actual Rows']:g} × {plan['Actual Loops']:g}"
        f"{f', {removed:g} thrown away' if removed else ''} · blocks {plan.get('Shared Hit Blocks', 0)} + {plan.get('Shared Read Blocks', 0)}"
    )
    for below in plan.get("Plans", ()):
        yield from drawn(below, depth + 1)


def drawn_all(plans: Sequence[Mapping[str, Any]]) -> list[str]:
    """Those that look at a table, one after the other. Pure."""
    return [line for one in touching(plans) for line in drawn(one["Plan"], 1)]


def shortened(lines: Sequence[str]) -> list[str]:
    """As many as a page has room for. Pure."""
    left_out = len(lines) - LINES_MAX
    return [*lines[:LINES_MAX], *([f"  … and {left_out:,} more lines"] if left_out > 0 else ())]
