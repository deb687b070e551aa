"""How drivers answer: a stated model, not a measurement. Every draw is a hash of the seed and of what it is about.

So the same driver says the same to the same offer under every policy, however many draws another policy needed before: pairs of runs
with one seed differ by their decisions alone.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache

_MASK = (1 << 64) - 1


def draw(*words: int) -> float:
    """A number in [0, 1) that depends on all the words and on nothing else (splitmix64 over them)."""
    return _number(_stirred(0, words))


@cache
def _begun(seed: int, purpose: int, cab: int) -> int:
    """Where all draws of one purpose about one driver begin: a city has some thousand drivers, and a broadcast asks them a million times."""
    return _stirred(0, (seed, purpose, cab))


def _number(state: int) -> float:
    return (state >> 11) * 2.0**-53


def _stirred(state: int, words: Iterable[int]) -> int:
    for word in words:
        state = (state + word + 0x9E3779B97F4A7C15) & _MASK
        state ^= state >> 30
        state = state * 0xBF58476D1CE4E5B9 & _MASK
        state ^= state >> 27
        state = state * 0x94D049BB133111EB & _MASK
        state ^= state >> 31
    return state


@dataclass(frozen=True, slots=True)
class Behaviour:
    """Our estimates, to be replaced by what a market measures.

    Of the offers that reach him a driver leaves `silent` unanswered: the phone in a pocket. To the rest he says yes with chance
    `eager` x his own bent x one half per `half_m` of straight way. His answer comes after `quick_s` and an exponential of mean `slow_s`.
    Bents are spread evenly over 1 - `spread` to 1 + `spread`. What comes after the offer's life is no answer.
    """

    silent: float = 0.10
    eager: float = 0.90
    spread: float = 0.15
    half_m: float = 6_000.0
    quick_s: float = 2.0
    slow_s: float = 3.0

    def delay_ms(self, seed: int, cab: int, job: int, round: int, ttl_ms: int) -> int | None:
        """Until he answers; None: no answer within the offer's life."""
        if _number(_stirred(_begun(seed, 1, cab), (job, round))) < self.silent:
            return None
        delay_ms = int(
            1000 * (self.quick_s - self.slow_s * math.log(1.0 - _number(_stirred(_begun(seed, 2, cab), (job, round)))))
        )
        return None if delay_ms >= ttl_ms else delay_ms

    def takes(self, seed: int, cab: int, job: int, distance_m: int) -> bool:
        """Whether his answer, if he gives one, is a yes."""
        bent = 1.0 + self.spread * (2.0 * _number(_begun(seed, 3, cab)) - 1.0)
        return _number(_stirred(_begun(seed, 4, cab), (job,))) < self.eager * bent * math.exp2(
            -distance_m / self.half_m
        )


READY = Behaviour()
RELUCTANT = Behaviour(eager=0.2)
"""One of five says yes: what a wave of five rests on (`dispatch/markets/store.py`), an estimate too."""
