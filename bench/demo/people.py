"""How drivers and customers behave, from a seed: the same seed, the same people, whatever the server does.

Each decision is drawn from its own stream, named by who decides and for the how-manyth time, so that one
more offer to one driver changes nothing for the others. All times here are wall seconds: people do not
think faster because a city is replayed faster.
"""

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

T = TypeVar("T")
Answer = Literal["accept", "decline", "ignore"]

# Our picture of drivers, not measured: most take what they are offered after looking at it for some seconds.
ACCEPT_SHARE = 0.82
DECLINE_SHARE = 0.12
LOOK_MEDIAN_S = 2.5
LOOK_SPREAD = 0.5
LOOK_S_MIN = 0.8
LOOK_S_MAX = 20.0

# A phone loses its line about once in twenty minutes and has it again after some seconds.
LINE_LOST_EVERY_S = 1200.0
LINE_AWAY_S = (1.0, 8.0)

# Seconds at the kerb until the rider has found the cab and sits in it.
BOARDING_S = (0.5, 2.0)

# How long a customer waits for somebody to come before he looks for another way.
PATIENCE_MIN_S = 12.0
PATIENCE_MORE_S = 15.0


@dataclass(frozen=True, slots=True)
class Reply:
    """What a driver does with one offer, and how many seconds after he saw it."""

    answer: Answer
    after_s: float


class Driver:
    """One driver's temper."""

    def __init__(self, seed: int, number: int) -> None:
        self._name = f"{seed}:driver:{number}"
        self._offers = 0
        self._trips = 0

    def reply(self) -> Reply:
        """To his next offer. The time is drawn for every answer, so that the next draw is the same whichever it is."""
        self._offers += 1
        chance = random.Random(f"{self._name}:offer:{self._offers}")
        roll = chance.random()
        look_s = LOOK_MEDIAN_S * math.exp(chance.gauss(0, LOOK_SPREAD))
        after_s = min(LOOK_S_MAX, max(LOOK_S_MIN, look_s))
        if roll < ACCEPT_SHARE:
            return Reply("accept", after_s)
        if roll < ACCEPT_SHARE + DECLINE_SHARE:
            return Reply("decline", after_s)
        return Reply("ignore", after_s)

    def boarding_s(self) -> float:
        """How long his next rider takes to get in."""
        self._trips += 1
        return random.Random(f"{self._name}:trip:{self._trips}").uniform(*BOARDING_S)


class Phone:
    """One phone's luck with its line, a driver's or a customer's."""

    def __init__(self, seed: int, owner: str) -> None:
        self._name = f"{seed}:phone:{owner}"
        self._losses = 0

    def next_loss(self) -> tuple[float, float]:
        """After how many seconds it loses the line next, and for how many it is away then."""
        self._losses += 1
        chance = random.Random(f"{self._name}:{self._losses}")
        return chance.expovariate(1 / LINE_LOST_EVERY_S), chance.uniform(*LINE_AWAY_S)


def patience_s(seed: int, request: int) -> float:
    """How long the customer of that request waits for somebody to accept."""
    return PATIENCE_MIN_S + random.Random(f"{seed}:customer:{request}").expovariate(1 / PATIENCE_MORE_S)


def asking(seed: int, requests: Sequence[T], share: float) -> tuple[T, ...]:
    """Those of the requests that are made: about that share, in their order. Who asks at 0.3 asks at 0.6 as well."""
    return tuple(
        request for number, request in enumerate(requests) if random.Random(f"{seed}:request:{number}").random() < share
    )


def fleet(seed: int, coverage: dict[str, float], wanted: int) -> list[str]:
    """Which of the recorded vehicles drive: those that are on the road for most of the time, by the seed among equals.

    Raises ValueError when there are not enough of them.
    """
    present = [vehicle for vehicle, share in sorted(coverage.items()) if share > 0]
    if len(present) < wanted:
        raise ValueError(f"the recording has {len(present)} cabs on the road in that time; {wanted} are wanted")
    random.Random(f"{seed}:fleet").shuffle(present)
    present.sort(key=lambda vehicle: -coverage[vehicle])
    return present[:wanted]
