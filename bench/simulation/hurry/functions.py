"""The Redis functions of the simulated slices, each a model of its Lua file. Keys and arguments arrive as strings and bytes."""

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from bench.simulation.hurry.data import Data, told

Function: TypeAlias = Callable[[Data, Sequence[str], Sequence[bytes]], Any]


def _round_of(held: bytes) -> int | None:
    """string.match(held, '^(%d+):')"""
    digits, colon, _ = held.partition(b":")
    return int(digits) if colon and digits.isdigit() else None


def claim(data: Data, keys: Sequence[str], args: Sequence[bytes]) -> bytes:
    mine = b":".join(args[:3])
    held = data.get(keys[0])
    if held:
        if held in (mine, mine + b":C"):
            return b"yours"
        round = _round_of(held)
        if round is not None and round > int(args[0]):
            return b"stale"
        if round is not None and round == int(args[0]):
            if held.endswith(b":C"):
                return b"committed"
            if 0 <= data.left_ms(keys[0]) <= int(args[3]):
                return b"pending"
    data.set(keys[0], mine, px=int(args[3]))
    return b"first"


def claim_settle(data: Data, keys: Sequence[str], args: Sequence[bytes]) -> int:
    mine = b":".join(args[:3])
    held = data.get(keys[0])
    if held not in (mine, mine + b":C"):
        return 0
    if int(args[3]) == 0:
        data.delete(keys[0])
    else:
        data.set(keys[0], mine + b":C", px=int(args[3]))
    return 1


def inbox_push(data: Data, keys: Sequence[str], args: Sequence[bytes]) -> bytes:
    copy, meta, wake = keys
    epoch, first, header, ttl_s = args[0], int(args[1]), args[2], int(args[3])
    frames = args[4:]
    last = first + len(frames) - 1
    if header:
        for seq, frame in enumerate(frames, first):
            data.publish(wake, b"%b %d %b" % (header, seq, frame))
    known = data.table(meta)
    top = int(known[b"top"]) if b"top" in known else None
    if known.get(b"epoch") != epoch:
        data.delete(copy, meta)
        top = None
    if top is not None and last <= top:
        return b"had"
    if top is not None and first > top + 1:
        return b"gap"
    if data.find(copy) is None:
        data.keys[copy] = []
    stream = data.keys[copy]
    stream += [(seq, frame) for seq, frame in enumerate(frames, first) if top is None or seq > top]
    del stream[:-512]
    data.hset(meta, "epoch", epoch, "top", last)
    data.expire(copy, ttl_s)
    data.expire(meta, ttl_s)
    return b"added"


def inbox_read(data: Data, keys: Sequence[str], args: Sequence[bytes]) -> bytes | list[bytes]:
    known = data.table(keys[1])
    after, newest = int(args[1]), int(args[2])
    if known.get(b"epoch") != args[0] or int(known.get(b"top", b"-1")) != newest:
        return b"no"
    entries = [entry for entry in data.find(keys[0]) or [] if entry[0] > after]
    if [seq for seq, _ in entries] != list(range(after + 1, newest + 1)):
        return b"no"
    return [frame for _, frame in entries]


def near(data: Data, keys: Sequence[str], args: Sequence[bytes]) -> list[list[Any]]:
    """A plain reading: how far the real one looks first, and how often it looks again, changes its cost and no answer."""
    free, seen, reserved, radii, search = keys
    lng, lat, wanted, largest = float(args[0]), float(args[1]), int(args[2]), float(args[3])
    now, fresh, hold, also, out = float(args[4]), float(args[5]), float(args[6]), int(args[8]), set(args[9:])
    if hold > 0 and (before := data.get(search)):
        parts = [part.split() for part in (*before.partition(b" ")[2].split(b"|"), b"", b"")[:3]]
        return [[int(word) if at % 2 else word for at, word in enumerate(part)] for part in parts]
    fixes, holds, own = data.table(seen), data.table(reserved), data.table(radii)
    chosen: list[tuple[bytes, float]] = []
    behind: list[tuple[bytes, float]] = []
    passed: list[tuple[bytes, float]] = []
    for rank, (member, away) in enumerate(data.within(free, lng, lat, largest)):
        telling = also > 0 and rank < wanted + also + len(args[9:]) + 2
        if len(chosen) == wanted and not (telling and len(behind) < also):
            break
        fix = fixes.get(member)
        held = holds.get(member) if hold != 0 else None
        bound = own.get(member)
        if fix is None or fix < now - fresh or (bound is not None and away > float(bound)) or member in out:
            continue
        if held is not None and now < held <= now + max(2 * abs(hold), 60_000):
            if telling and len(passed) < also:
                passed.append((member, away))
        else:
            (chosen if len(chosen) < wanted else behind).append((member, away))
    if hold > 0 and chosen:
        data.zadd(reserved, *(word for member, _ in chosen for word in (now + hold, member)))
    answer = [
        [word for member, away in some for word in (member, math.floor(away + 0.5))]
        for some in (chosen, behind, passed)
    ]
    if hold > 0:
        text = b" | ".join(b" ".join(map(told, some)) for some in answer)
        data.set(search, told(int(now + hold)) + b" " + text, px=int(hold))
    return answer


def hold(data: Data, keys: Sequence[str], args: Sequence[bytes]) -> list[bytes]:
    if before := data.get(keys[1]):
        return before.split()[1:]
    now, ttl = int(args[0]), int(args[1])
    others = []
    for member in args[2:]:
        held = data.table(keys[0]).get(member)
        if held is not None and now < held <= now + max(2 * ttl, 60_000):
            others.append(member)
        else:
            data.zadd(keys[0], now + ttl, member)
    data.set(keys[1], b" ".join([b"others", *others]), px=ttl)
    return others


def near_undo(data: Data, keys: Sequence[str], args: Sequence[bytes]) -> int:
    until, *answer = (data.get(keys[1]) or b"0").partition(b"|")[0].split()
    reserved = data.table(keys[0])
    gone = [member for member in answer[::2] if reserved.get(member) == float(until)]
    data.remove(keys[0], *gone)
    data.set(keys[1], b"0", px=int(args[0]))
    return len(gone)


def unlist(data: Data, keys: Sequence[str], args: Sequence[bytes]) -> int:
    if data.table(keys[0]).get(args[0]) != args[1]:
        return 0
    for key in keys:
        data.remove(key, args[0])
    return 1


def unlist_silent(data: Data, keys: Sequence[str], args: Sequence[bytes]) -> int:
    oldest, limit = float(args[0]), int(args[1])
    silent = sorted((score, member) for member, score in data.table(keys[0]).items() if score < oldest)[:limit]
    for key in keys if silent else ():
        data.remove(key, *(member for _, member in silent))
    return len(silent)


FUNCTIONS: dict[str, Function] = {
    function.__name__: function
    for function in (claim, claim_settle, hold, inbox_push, inbox_read, near, near_undo, unlist, unlist_silent)
}


def called(data: Data, words: Sequence[Any], functions: dict[str, Function]) -> Any:
    """FCALL name numkeys keys… args… with the functions that are loaded. Raises KeyError for one that is not."""
    name, count = str(words[1]), int(words[2])
    keys = [word if isinstance(word, str) else word.decode() for word in words[3 : 3 + count]]
    return functions[name](data, keys, [told(word) for word in words[3 + count :]])
