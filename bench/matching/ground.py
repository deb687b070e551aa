"""Where the cabs are that can be found now, and the nearest of them to a place. What Redis is to the server."""

import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy

TICK_MS = 10_000
"""Cabs that cruise are moved so often."""
_REST_MS = 300_000
"""A cab without work stands for so long, then cruises to where cabs of this hour are, and stands again. Our estimate."""


_FEW = 24
"""Fewer cabs are looked through one by one: that is faster than to call for an array's help."""


class Ground:
    """A flat map of free cabs by number; about 10 us a question for some hundred of them."""

    def __init__(self, cabs: int, step_m: float) -> None:
        """`step_m`: straight metres that a cruising cab gains in a tick."""
        self._step_m = step_m
        self._x, self._y, self._dx, self._dy = (numpy.zeros(cabs) for _ in range(4))
        self._left = numpy.zeros(cabs, dtype=numpy.int64)
        self._rested_at = numpy.zeros(cabs, dtype=numpy.int64)
        self._cab = numpy.zeros(cabs, dtype=numpy.int64)
        self._slot: dict[int, int] = {}
        self.cruised_m = 0.0

    def __len__(self) -> int:
        return len(self._slot)

    def __contains__(self, cab: int) -> bool:
        return cab in self._slot

    def put(self, cab: int, x: float, y: float, now_ms: int) -> None:
        """He stands here and can be found."""
        at = self._slot[cab] = len(self._slot)
        self._x[at], self._y[at], self._cab[at] = x, y, cab
        self._dx[at] = self._dy[at] = self._left[at] = 0
        self._rested_at[at] = now_ms + _REST_MS

    def take(self, cab: int) -> tuple[float, float]:
        """He can no longer be found; where he is."""
        at = self._slot.pop(cab)
        place = float(self._x[at]), float(self._y[at])
        last = len(self._slot)
        if at != last:
            for column in (self._x, self._y, self._dx, self._dy, self._left, self._rested_at, self._cab):
                column[at] = column[last]
            self._slot[int(self._cab[at])] = at
        return place

    def place(self, cab: int) -> tuple[float, float]:
        at = self._slot[cab]
        return float(self._x[at]), float(self._y[at])

    def near(
        self, x: float, y: float, wanted: int, radius_m: float, without: Iterable[int] = ()
    ) -> list[tuple[int, int]]:
        """(cab, whole metres), nearest first, of equals the smaller number; at most `wanted`, none beyond `radius_m`."""
        n = len(self._slot)
        if not n:
            return []
        left_out = set(without)
        if n <= _FEW:
            columns = (self._cab[:n].tolist(), self._x[:n].tolist(), self._y[:n].tolist())
            few = sorted(
                (math.sqrt((to_x - x) ** 2 + (to_y - y) ** 2), cab) for cab, to_x, to_y in zip(*columns, strict=True)
            )
            return [(cab, int(metres + 0.5)) for metres, cab in few if metres <= radius_m and cab not in left_out][
                :wanted
            ]
        dx, dy = self._x[:n] - x, self._y[:n] - y
        away: Any = numpy.sqrt(dx * dx + dy * dy)
        ask = wanted + len(left_out)
        some: Any
        if ask >= n:
            some = numpy.flatnonzero(away <= radius_m)
        elif ask == 1:
            # All that are equally near, so that it is their number that decides.
            some = numpy.flatnonzero(away == away.min())
            some = some[away[some] <= radius_m]
        else:
            bound = min(radius_m, float(numpy.partition(away, ask - 1)[ask - 1]))
            some = numpy.flatnonzero(away <= bound)
        found = sorted(zip(away[some].tolist(), self._cab[some].tolist(), strict=True))
        return [(cab, int(metres + 0.5)) for metres, cab in found if cab not in left_out][:wanted]

    def tick(self, now_ms: int, haunt: Callable[[int], tuple[float, float]]) -> None:
        """Move who cruises by a step; send who has rested enough to a haunt."""
        n = len(self._slot)
        if not n:
            return
        left: Any = self._left[:n]
        moving: Any = left > 0
        self._x[:n] += self._dx[:n] * moving
        self._y[:n] += self._dy[:n] * moving
        self.cruised_m += self._step_m * int(moving.sum())
        left -= moving
        self._rested_at[:n][moving & (left == 0)] = now_ms + _REST_MS
        for at in numpy.flatnonzero((left == 0) & (self._rested_at[:n] <= now_ms)).tolist():
            to_x, to_y = haunt(int(self._cab[at]))
            way_x, way_y = to_x - float(self._x[at]), to_y - float(self._y[at])
            steps = max(1, round((way_x * way_x + way_y * way_y) ** 0.5 / self._step_m))
            self._dx[at], self._dy[at], self._left[at] = way_x / steps, way_y / steps, steps
