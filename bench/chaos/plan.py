"""Which fault strikes when, whom and for how long: drawn from the seed before the run."""

import random
from collections.abc import Sequence

import msgspec


class Kind(msgspec.Struct, frozen=True):
    """A fault that the nemesis can do."""

    name: str
    of: str
    """Its number in reliability.md §4."""
    what: str
    shortest_s: float = 0.0
    longest_s: float = 0.0
    weight: float = 1.0
    """How often, beside the others."""
    short_s: float = 0.0
    """Its length in the short form."""


KINDS: tuple[Kind, ...] = (
    Kind("worker-kill", "F1", "SIGKILL of a worker; its supervisor starts another", weight=6),
    Kind("worker-stop", "F2", "SIGSTOP of a worker", 1, 30, weight=2, short_s=2),
    Kind("worker-block", "F20", "SIGSTOP of a worker for the 5 s of a blocked event loop", 5, 5, short_s=5),
    Kind("redis-kill", "F3", "SIGKILL of Redis, and a start a moment later", 0.5, 8, weight=2, short_s=2),
    Kind("redis-stop", "F3", "SIGSTOP of Redis", 0.5, 8, short_s=2),
    Kind("flushall", "F4", "FLUSHALL", weight=2),
    Kind("function-flush", "F4", "FUNCTION FLUSH", weight=2),
    Kind("redis-stale", "F4", "Redis comes back with the append-only file of some seconds ago", 2, 8, short_s=2),
    Kind("redis-empty", "F5", "failover to a Redis that has nothing", 0.1, 2, short_s=0.5),
    Kind("redis-split", "F5", "half of the workers talk to another Redis: two masters", 2, 10, short_s=2),
    Kind("redis-lies", "F6", "claims get answers by chance", 2, 15, weight=2, short_s=4),
    Kind("postgres-kill", "F7", "SIGKILL of all of Postgres' processes, and a start", 0, 3, weight=1.5, short_s=0.5),
    Kind("postgres-immediate", "F7", "immediate shutdown of Postgres, and a start", 0, 2, short_s=0),
    Kind("postgres-stop", "F7", "SIGSTOP of all of Postgres' processes", 0.5, 4, weight=0.5, short_s=1.5),
    Kind("backends", "F7", "some of Postgres' backends are terminated, those at work first", weight=3),
    Kind("row-lock", "F9", "a foreign session holds rows of jobs and gates", 1, 10, weight=2, short_s=3),
    Kind("link-reset", "F10", "every connection of a link is reset", weight=4),
    Kind("link-half-open", "F10", "one direction of a link is silent", 2, 45, weight=1.5, short_s=4),
    Kind("link-blackhole", "F10", "a link loses every byte", 1, 15, weight=1.5, short_s=3),
    Kind("link-delay", "F10", "answers of a link come late", 3, 20, weight=1.5, short_s=3),
    Kind("link-throttle", "F10", "a link is slow", 3, 15, short_s=3),
    Kind("disk-full", "F11", "no space left for Postgres' log and Redis' file", 1, 5, weight=0.5, short_s=2),
    Kind("clock-worker", "F12", "a worker's clock is an hour off, or 0.4 s", 5, 20, weight=0.7, short_s=4),
    Kind("clock-redis", "F12", "Redis' clock is an hour off", 3, 10, weight=0.5, short_s=3),
    Kind("clock-postgres", "F12", "Postgres' clock is 0.4 s off", 3, 10, weight=0.5, short_s=3),
    Kind("client-abort", "F19", "phones with a request under way lose their line", weight=3),
    Kind("cpu-hog", "F20", "two processes take all the CPU they get", 1, 6, weight=0.7, short_s=2),
)
BY_NAME = {kind.name: kind for kind in KINDS}

STANDING: dict[str, str] = {
    "dropped-commit": "F8: the reply of 1 % of the commits is lost",
    "dropped-claim": "F8: the reply of 1 % of the claims is lost",
}
"""Faults of single statements, all through the run."""

SETTLE_S = 4.0
"""Before the first fault: everybody is online and jobs are under way."""


class Planned(msgspec.Struct, frozen=True):
    """One fault to come."""

    at_s: float
    """Seconds after the start of the load."""
    kind: str
    length_s: float
    chance: int
    """What else about it is by chance comes out of this."""


CALM_EVERY_S, BEFORE_S, AFTER_S = 45.0, 4.0, 10.0
"""So often one fault strikes alone, with nothing else wrong so long before and after: what figures of recovery are made of."""
ALONE = (("worker-kill", 0.0), ("redis-kill", 4.0), ("worker-kill", 0.0), ("postgres-kill", 0.5))


def drawn(seed: int, seconds: float, kinds: Sequence[str], *, every_s: float) -> list[Planned]:
    """A schedule of independent faults, `every_s` apart on average; they overlap where their lengths make them. Between them, calm
    stretches with one fault each.
    """
    dice = random.Random(f"schedule {seed}")
    pool = [BY_NAME[name] for name in kinds]
    alone = [(name, length) for name, length in ALONE if name in kinds]
    found: list[Planned] = []
    deck: list[Kind] = []
    at, calm = SETTLE_S, 0
    while pool and at < seconds:
        next_calm = CALM_EVERY_S * (calm + 1) if alone else seconds + BEFORE_S
        if at >= next_calm - BEFORE_S:
            name, length = alone[calm % len(alone)]
            if next_calm + length < seconds:
                found.append(Planned(next_calm, name, length, dice.getrandbits(32)))
            at, calm = next_calm + length + AFTER_S, calm + 1
            continue
        if not deck:
            # Dealt like cards, so that none is left out for long.
            deck = [one for one in pool for _ in range(max(1, round(2 * one.weight)))]
            dice.shuffle(deck)
        kind = deck.pop()
        length = round(dice.uniform(kind.shortest_s, kind.longest_s), 2)
        length = min(length, max(0.0, round(min(next_calm - BEFORE_S, seconds) - at - 0.01, 2)))
        found.append(Planned(at, kind.name, length, dice.getrandbits(32)))
        at = round(at + dice.expovariate(1 / every_s), 2)
    return found


def short(seed: int, kinds: Sequence[str], *, apart_s: float = 1.0) -> list[Planned]:
    """Every kind once, one after the other, in an order by the seed; before them a worker's death in the calm."""
    dice = random.Random(f"short {seed}")
    pool = [BY_NAME[name] for name in kinds]
    dice.shuffle(pool)
    found: list[Planned] = []
    at = SETTLE_S
    if "worker-kill" in kinds:
        found.append(Planned(at, "worker-kill", 0.0, dice.getrandbits(32)))
        at += AFTER_S
    for kind in pool:
        found.append(Planned(round(at, 2), kind.name, kind.short_s, dice.getrandbits(32)))
        at += kind.short_s + apart_s
    return found


def length_of(plan: Sequence[Planned]) -> float:
    """Seconds until the last of them is healed."""
    return max((one.at_s + one.length_s for one in plan), default=0.0) + SETTLE_S
