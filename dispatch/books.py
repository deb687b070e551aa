"""`dispatch ledger`: the whole set of books, read in one snapshot beside a running server."""

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from uuid import UUID

import asyncpg
import msgspec
import orjson
from msgspec import Meta, Struct

from dispatch import earnings, ledger, wallets
from dispatch.kit.clock import SystemClock
from dispatch.kit.postgres import Tx

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

CLEAN, DIFFERENCES, NOT_RUN = 0, 1, 2
EXPORT_BYTES_MAX = 256 * 2**20
SETTLED_WITHIN = timedelta(days=7)
"""How long money may be on its way between us and the outside world."""


class BadExport(Exception):
    """A line of an export that cannot be read."""


class ExportLine(Struct, frozen=True, forbid_unknown_fields=True):
    """One line of an outside list. `amount_minor`: > 0 came to us, < 0 left us."""

    account: ledger.Kind
    ref: Annotated[str, Meta(min_length=1, max_length=200)]
    currency: Annotated[str, Meta(pattern=r"^[A-Z]{3}(?!\n)$")]
    amount_minor: Annotated[int, Meta(ge=-(2**53), le=2**53)]


_LINE = msgspec.json.Decoder(ExportLine)


def read_export(path: Path) -> Mapping[ledger.Kind, ledger.Export]:
    """The sums of a file of JSON lines, by clearing account. Raises: BadExport, OSError."""
    if path.stat().st_size > EXPORT_BYTES_MAX:
        raise BadExport(f"{path} is larger than {EXPORT_BYTES_MAX // 2**20} MiB: give one sum for each reference")
    found: dict[ledger.Kind, dict[tuple[str, str], int]] = {}
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.strip():
                continue
            try:
                one = _LINE.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise BadExport(f"{path}, line {number}: {error}") from error
            if one.account not in ledger.CLEARING:
                raise BadExport(
                    f"{path}, line {number}: {one.account} is no clearing account: {', '.join(ledger.CLEARING)}"
                )
            sums = found.setdefault(one.account, {})
            key = (one.ref, one.currency)
            sums[key] = sums.get(key, 0) + one.amount_minor
    return found


@asynccontextmanager
async def _snapshot(url: str) -> AsyncIterator[Tx]:
    """Everything as of one moment, on a connection of its own that locks nobody and may take its time."""
    conn: Any = await asyncpg.connect(
        url, server_settings={"search_path": "dispatch", "application_name": "dispatch_ledger", "jit": "off"}
    )
    try:
        await conn.execute("SET ROLE dispatch_system")
        async with conn.transaction(isolation="repeatable_read", readonly=True):
            yield conn
    finally:
        await conn.close(timeout=5)


async def reconciled(
    url: str, say: Callable[[str], None], *, export: Mapping[ledger.Kind, ledger.Export] | None = None
) -> int:
    """Compare all books, one JSON line for each difference and one at the end; the exit code. Writers go on."""
    clock = SystemClock()
    started = clock.monotonic()
    found = 0
    async with _snapshot(url) as conn:
        async for one in _differences(conn, export or {}):
            found += 1
            say(_line({"check": one.check, "difference": one.what, **one.facts}))
        summary = {
            "differences": found,
            **await ledger.counts(conn),
            "open": [
                {"account": row["kind"], "asset": row["asset"], "minor": row["amount"]}
                for row in await ledger.clearing(conn)
            ],
            "compared_with_export": sorted(export or {}),
        }
    say(_line({"summary": summary | {"seconds": round(clock.monotonic() - started, 3)}}))
    return DIFFERENCES if found else CLEAN


async def _differences(conn: Tx, export: Mapping[ledger.Kind, ledger.Export]) -> AsyncIterator[ledger.Difference]:
    async for one in ledger.reconcile(conn):
        yield one
    for row in await wallets.held_off(conn):
        yield _found("f", "what is held is not what withdrawals ask for", row)
    for unpaid in await earnings.jobs_unpaid(conn, ledger.SHOWN_MAX):
        yield _found("g", "a job and its earning do not agree", unpaid)
    for unposted in await earnings.earnings_unposted(conn, ledger.SHOWN_MAX):
        yield _found("g", "an earning and its posting do not agree", unposted)
    for total in await earnings.totals_wrong(conn, ledger.SHOWN_MAX):
        yield _found("g", "a lifetime sum is not that of its rows", total)
    for running in await earnings.sums_wrong(conn, ledger.SHOWN_MAX):
        yield _found("g", "a running sum is not that of the rows before it", running)
    for stuck in await wallets.payouts_stuck(conn):
        yield _found("j", "a withdrawal has been processing for too long", stuck)
    for kind, outside in export.items():
        async for one in ledger.unsettled(conn, kind, outside, before=SystemClock().now() - SETTLED_WITHIN):
            yield one


def _found(check: str, what: str, row: "DataclassInstance") -> ledger.Difference:
    return ledger.Difference(check, what, asdict(row))


async def stated(
    url: str, say: Callable[[str], None], owner_id: UUID, at: datetime, *, note: Callable[[str], None]
) -> int:
    """What somebody had at a moment, one JSON line for each account."""
    async with _snapshot(url) as conn:
        found = await ledger.statement(conn, owner_id, at)
        if not found:
            note(f"{owner_id} has no accounts")
        for held in found:
            say(
                _line(
                    {
                        "account": held.kind,
                        "asset": held.asset,
                        "balance_minor": held.balance_minor,
                        "entries": held.entries,
                        "last_at": held.last_at,
                    }
                )
            )
    return CLEAN


def _line(what: Mapping[str, Any]) -> str:
    return orjson.dumps(what, default=str).decode()
