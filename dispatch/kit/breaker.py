"""A circuit breaker: after a run of failures nobody asks for a while, then exactly one does."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum

from dispatch.kit.clock import Clock


class State(StrEnum):
    """`half-open`: the pause is over, and the next caller (or one under way) finds out whether it was long enough."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half-open"


class CircuitOpen(Exception):
    """Not asked. `wait_s` until it is worth coming back."""

    def __init__(self, wait_s: float) -> None:
        super().__init__(f"the circuit is open for {wait_s:.1f} s more")
        self.wait_s = wait_s


class Breaker:
    """One per service that is asked and process; for one event loop.

    `failures` in a row open it for `open_s`. Calls that began before it opened change nothing when they end. Cancellation is
    no failure: a cancelled probe gives its place to the next caller.
    """

    def __init__(self, clock: Clock, *, failures: int = 5, open_s: float = 60.0, probe_s: float = 1.0) -> None:
        self._clock = clock
        self._failures_max = failures
        self._open_s = open_s
        self._probe_s = probe_s
        self._failures = 0
        self._open_until: float | None = None
        self._probing = False
        self._era = 0
        """Counts openings and closings: the end of a call from another era says nothing about this one."""

    @property
    def state(self) -> State:
        if self._open_until is None:
            return State.CLOSED
        return State.OPEN if self._clock.monotonic() < self._open_until else State.HALF_OPEN

    @contextmanager
    def call(self, counts: Callable[[Exception], bool] = lambda _: True) -> Iterator[None]:
        """Ask inside the block. `counts` says of an exception whether it is the service's failure; any other end is an answer.

        Raises: CircuitOpen, without running the block.
        """
        if self._open_until is not None:
            left_s = self._open_until - self._clock.monotonic()
            if left_s > 0 or self._probing:
                raise CircuitOpen(max(left_s, self._probe_s))
            self._probing = True
        era = self._era
        try:
            yield
        except Exception as error:
            self._ended(era, failed=counts(error))
            raise
        except BaseException:
            if era == self._era:
                self._probing = False
            raise
        else:
            self._ended(era, failed=False)

    def _ended(self, era: int, *, failed: bool) -> None:
        if era != self._era:
            return
        self._failures = self._failures + 1 if failed else 0
        if failed and (self._probing or self._failures >= self._failures_max):
            self._open_until = self._clock.monotonic() + self._open_s
            self._era += 1
        elif self._probing:
            self._open_until = None
            self._era += 1
        self._probing = False
        if self._open_until is not None:
            self._failures = 0
