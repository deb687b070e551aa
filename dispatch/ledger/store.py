"""The doors of the ledger's functions."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from dispatch.kit.errors import KeyReused
from dispatch.kit.postgres import Tx
from dispatch.kit.sql import Queries
from dispatch.ledger.errors import AlreadyReversed, BadLeg, InsufficientBalance
from dispatch.ledger.model import Account, Leg, Posted, Purse

Q = Queries.beside(__file__)
_BAD_LEG, _REUSED = "LD400", "LD409"
_REVERSED_ONCE = "ledger_txn_reversed_once"
_FLOOR = "ledger_floor"


async def purse(tx: Tx, owner_id: UUID, asset: str, *, tell: Sequence[UUID] = ()) -> Purse:
    """Lock and read what `owner_id` has: the first step of a change of his money, and one purse to a transaction.

    `tell`: users whose inbox heads are locked before, since what is posted will be told them in this transaction.
    """
    row = await tx.fetchrow(Q["purse"], owner_id, asset, list(tell))
    assert row is not None
    return Purse(owner_id, asset, row["wallet"], row["held"], row["owed"], row["owed_max"])


async def post(
    tx: Tx,
    kind: str,
    key: str,
    asset: str,
    legs: Sequence[Leg],
    *,
    ref: str | None = None,
    asked: object = None,
    reverses: int | None = None,
    meta: Mapping[str, Any] | None = None,
) -> Posted:
    """Post `legs` in `tx` under the business key `key`: once for ever. What it locks is hot: the last thing before the commit that locks.

    `asked`: what the request was, any JSON; the same key asked for something else is refused. Without it the legs are what was asked.
    A refusal leaves the transaction failed: nothing of it can be kept.

    Raises: InsufficientBalance (a floor), KeyReused, AlreadyReversed, BadLeg.
    """
    request = asked if asked is not None else [[*_named(leg.src), *_named(leg.dst), leg.amount_minor] for leg in legs]
    hashed = hashlib.sha256(orjson.dumps([kind, asset, request], default=str, option=orjson.OPT_SORT_KEYS)).digest()
    try:
        row = await tx.fetchrow(
            Q["post"],
            kind,
            key,
            hashed,
            [str(leg.src.kind) for leg in legs],
            [leg.src.owner_id for leg in legs],
            [str(leg.dst.kind) for leg in legs],
            [leg.dst.owner_id for leg in legs],
            [leg.amount_minor for leg in legs],
            asset,
            ref,
            reverses,
            orjson.dumps(dict(meta or {}), default=str),
        )
    except asyncpg.PostgresError as error:
        if error.sqlstate == _REUSED:
            raise KeyReused(f"the ledger has posted {key} for another request") from error
        if error.sqlstate == _BAD_LEG:
            raise BadLeg(f"{key}: {getattr(error, 'detail', None)}") from error
        if isinstance(error, asyncpg.UniqueViolationError) and error.constraint_name == _REVERSED_ONCE:
            raise AlreadyReversed(f"transaction {reverses} is reversed already") from error
        if isinstance(error, asyncpg.CheckViolationError) and error.constraint_name == _FLOOR:
            raise InsufficientBalance(f"{key}: an account would fall below its floor") from error
        raise
    assert row is not None
    return Posted(row["txn"], row["replayed"])


async def configure(conn: Tx, *, debt_limit_minor: int) -> None:
    """Write down the setting that the judge must know. Harmless when it is the same."""
    await conn.execute(Q["configure"], debt_limit_minor)


def _named(account: Account) -> tuple[str, str]:
    return str(account.kind), str(account.owner_id or "")
