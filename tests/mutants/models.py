"""Mistakes in what lies behind the doors of the stores: the models of the simulator with a few lines changed."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from bench.simulation.hurry import FUNCTIONS
from bench.simulation.hurry.data import Data
from bench.simulation.judge import inbox
from bench.simulation.judge.tables import Session


@contextmanager
def copy_out_of_order() -> Iterator[None]:
    """The copy takes frames as they come, from whichever worker, and gives back as many as are asked for."""

    def push(data: Data, keys: Sequence[str], args: Sequence[bytes]) -> bytes:
        copy, meta, wake = keys
        first, header, frames = int(args[1]), args[2], args[4:]
        for seq, frame in enumerate(frames, first):
            if header:
                data.publish(wake, b"%b %d %b" % (header, seq, frame))
            data.keys.setdefault(copy, []).append((seq, frame))
        data.hset(meta, "epoch", args[0], "top", first + len(frames) - 1)
        return b"added"

    def read(data: Data, keys: Sequence[str], args: Sequence[bytes]) -> bytes | list[bytes]:
        after, newest = int(args[1]), int(args[2])
        found = [frame for _, frame in data.find(keys[0]) or []][-(newest - after) :]
        return found if len(found) == newest - after else b"no"

    with patch.dict(FUNCTIONS, {"inbox_push": push, "inbox_read": read}):
        yield


@contextmanager
def seq_outside_the_transaction() -> Iterator[None]:
    """Numbers are drawn at once and for good; the events that carry them come with the commit, or never."""

    def append_pending(db: Session, facts: Sequence[inbox.Pending]) -> list[dict[str, Any]]:
        numbered = []
        heads = db.tables.rows["inbox_head"]
        for user_id, name, body in sorted(facts, key=lambda fact: fact[0]):
            db.lock("inbox_head", user_id)
            seq = int(heads[user_id]["seq"]) + 1 if user_id in heads else 1
            heads[user_id] = {"user_id": user_id, "seq": seq}
            fact = {"user_id": user_id, "seq": seq, "name": name, "body": body, "at": db.now}
            db.put("events", user_id, {"rows": [*inbox.events_of(db, user_id), fact]})
            numbered.append(fact)
        return numbered

    ours = inbox.append_pending
    with ExitStack() as stack:
        for name, module in list(sys.modules.items()):
            if name.startswith("bench.simulation.") and getattr(module, "append_pending", None) is ours:
                stack.enter_context(patch.object(module, "append_pending", append_pending))
        yield
