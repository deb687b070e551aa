"""The same request id twice: the stored answer, once. Effects and answer commit in one transaction."""

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec
import orjson

from dispatch.kit.errors import KeyReused, StillRunning
from dispatch.kit.postgres import Actor, Postgres, Tx
from dispatch.kit.sql import Queries

_Q = Queries(Path(__file__).with_name("queries.sql"))


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as it was given: HTTP status and JSON body. `facts` is not part of it: a replay causes none."""

    body: bytes
    status: int = 200
    replayed: bool = False


def fingerprint_of(what: str, body: object) -> str:
    """What must be equal for a repeated id to be the same request: the operation and its canonical body."""
    canonical = orjson.dumps(msgspec.to_builtins(body, str_keys=True), option=orjson.OPT_SORT_KEYS)
    return hashlib.sha256(what.encode() + b"\0" + canonical).hexdigest()


def refuse(word: str, key: str | None) -> None:
    """What `idem_begin` said, where it is a no. Raises: KeyReused (another body), StillRunning (the same id is at work)."""
    match word:
        case "reused":
            raise KeyReused(f"request id {key} was used with another body")
        case "running":
            raise StillRunning(f"request id {key} is at work")


class Idempotency:
    """Wraps a change. `key` None: no id was given, the change just runs."""

    def __init__(self, pg: Postgres) -> None:
        self._pg = pg

    @asynccontextmanager
    async def once(self, actor: Actor, key: str | None, fingerprint: str) -> AsyncIterator["Turn"]:
        """A transaction of `actor` whose answer is kept under `key`. Check `turn.replay` first; end with `turn.keep(answer)`.

        Raises: KeyReused (another body), StillRunning (the same id is at work).
        """
        async with self._pg.acting(actor) as tx:
            turn = Turn(tx)
            if key is not None:
                row = await tx.fetchrow(_Q["idem_begin"], actor.user_id, key, fingerprint)
                assert row is not None
                refuse(row["word"], key)
                if row["word"] == "replay":
                    turn.replay = Answer(row["response"].encode(), row["status"], replayed=True)
            yield turn
            if key is not None and turn.replay is None and turn.kept is not None:
                await tx.execute(
                    _Q["idem_finish"], actor.user_id, key, fingerprint, turn.kept.status, turn.kept.body.decode()
                )


class Turn:
    """One run under a request id."""

    def __init__(self, tx: Tx) -> None:
        self.tx = tx
        self.replay: Answer | None = None
        self.kept: Answer | None = None

    def keep(self, answer: Answer) -> Answer:
        """Store `answer` with the transaction's effects."""
        self.kept = answer
        return answer
