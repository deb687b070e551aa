"""How much a statement reads."""

import re
from typing import Any

import asyncpg

from dispatch.kit.postgres import Tx


async def pages_read(tx: "Tx | asyncpg.Connection[Any]", text: str, *arguments: str) -> int:
    """Pages that it looks at, those of its functions' own statements included. `arguments` are SQL literals. It is carried out."""
    for number, argument in enumerate(arguments, 1):
        text = re.sub(rf"\${number}(?!\d)", lambda _, given=argument: given, text)  # type: ignore[misc]
    rows: list[Any] = await tx.fetch(f"EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF) {text}")
    whole = next(row[0] for row in rows if "Buffers" in row[0])
    return sum(int(count) for count in re.findall(r"(?:hit|read)=(\d+)", whole))
