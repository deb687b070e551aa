"""From phones to judge on real processes: a database that was broken on purpose is found broken."""

import asyncio
from pathlib import Path

import asyncpg

from bench.chaos.command import parser, scenario

WITHIN_S = 120.0
KEEPS_ONE = """
SET search_path = dispatch;
CREATE FUNCTION keeps_one() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.balance := NEW.balance + 1; RETURN NEW; END $$;
CREATE TRIGGER keeps_one BEFORE UPDATE ON ledger_account FOR EACH ROW WHEN (OLD.version = 0) EXECUTE FUNCTION keeps_one();
"""
"""Every account holds a satang more than its entries from its first posting on."""


async def broken(url: str) -> None:
    conn = await asyncpg.connect(url)
    await conn.execute(KEEPS_ONE)
    await conn.close()


async def test_books_that_do_not_add_up_are_reported_and_nothing_else(tmp_path: Path) -> None:
    words = "--short --only client-abort --providers 40 --customers 15 --jobs-per-s 4 --workers 1 --keep"
    shown = parser().parse_args([*words.split(), str(tmp_path / "kept")])
    async with asyncio.timeout(WITHIN_S):
        found, code = await scenario(shown, prepare=broken)
    assert code == 1
    assert {name for name, count in found["by_invariant"].items() if count} == {"I5"}
    assert found["accepts_won"] > 0
