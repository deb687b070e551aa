"""Whether what the clients of one object were told can have happened in some order that respects real time.

The algorithm is Wing and Gong's search with Lowe's memo: an operation may be taken next if no other one had returned before
it was called; a state that was already reached with the same set of operations taken is not searched again. A call whose
answer is unknown may take effect at any moment after it was made, or never.
"""

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)
C = TypeVar("C")

STEPS_MAX = 2_000_000
"""Of one search. Histories of a job take some hundreds; one that needs more is reported as not decided, never as good."""


class Undecided(RuntimeError):
    """The search was given up."""


@dataclass(frozen=True, slots=True)
class Call(Generic[C]):
    """One operation. `known`: its answer was read, so it took effect between `at` and `done`."""

    at: int
    done: int
    what: C
    known: bool = True


def linearizable(
    calls: Sequence[Call[C]], start: S, step: Callable[[S, C, bool], S | None], steps_max: int = STEPS_MAX
) -> bool:
    """Whether some order of `calls` is legal. `step(state, what, known)` is the state after it, or None when what it was told
    cannot be true in this state; for an unknown one it is the state as if it took effect, or None when it has none.

    Raises: Undecided.
    """
    calls = sorted(calls, key=lambda call: (call.at, call.done))
    everything = sum(1 << index for index, call in enumerate(calls) if call.known)
    seen: set[tuple[int, S]] = set()
    stack: list[tuple[int, S]] = [(0, start)]
    while stack:
        if len(seen) > steps_max:
            raise Undecided(f"{len(calls)} calls: given up after {steps_max} states")
        taken, state = stack.pop()
        if taken & everything == everything:
            return True
        # Whoever was called before the first return among those left may be next.
        latest = min(call.done for index, call in enumerate(calls) if call.known and not taken >> index & 1)
        found: list[tuple[int, S]] = []
        for index, call in enumerate(calls):
            if call.at > latest:
                break
            if taken >> index & 1:
                continue
            after = step(state, call.what, call.known)
            if after is None:
                continue
            key = (taken | 1 << index, after)
            if key not in seen:
                seen.add(key)
                found.append(key)
        # Known ones first, in the order in which they were called: almost every history is legal in almost that order.
        stack.extend(sorted(found, key=lambda key: (calls[_added(taken, key[0])].known, -_added(taken, key[0]))))
    return False


def _added(before: int, after: int) -> int:
    return (before ^ after).bit_length() - 1
