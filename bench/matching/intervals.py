"""What the difference between two policies is worth: values, their 95 % intervals, and what may be said of them.

Pairs are grouped by what was driven: the days and the stretch of them. Seeds of one group share its customers, so that it is whole groups
that are left out, with all their seeds. Of fewer than `FEWEST` groups there is no interval: it would be the least and the most of
what was seen, and promise more.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import comb, exp, fsum, log, sqrt
from statistics import median
from typing import Any

from scipy.special import stdtrit  # type: ignore[import-untyped]

from bench.matching.evidence import FLEETS, STRETCHES, Setting

Pairs = Mapping[Any, Sequence[tuple[float, float]]]
"""Group → what the one and what the other measured, pair by pair."""
FEWEST = 5


@dataclass(frozen=True, slots=True)
class Found:
    """A value, and the bounds between which it is in 95 of 100 like cases; None: too few groups to say. NaN: nothing to compare."""

    value: float
    low: float | None = None
    high: float | None = None

    def below(self, bound: float) -> bool | None:
        """Whether it is, beyond chance: None where that is not sure."""
        if self.low is None or self.high is None:
            return None
        return True if self.high <= bound else False if self.low > bound else None

    def beside(self, bound: float) -> int | None:
        """-1: less than it beyond chance, 1: more, 0: neither is sure. None: too few groups to say."""
        if self.low is None or self.high is None:
            return None
        return -1 if self.high < bound else 1 if self.low > bound else 0


def value_of(pairs: Pairs, *, ratio: bool) -> float:
    """What the first of each pair is to the second: mean over mean, or the mean difference. NaN of none."""
    return _value([pair for group in pairs.values() for pair in group], ratio)


def _value(some: Sequence[tuple[float, float]], ratio: bool) -> float:
    first, second = sum(one for one, _ in some), sum(two for _, two in some)
    if ratio:
        return first / second if second else float("nan")
    return (first - second) / len(some) if some else float("nan")


def interval(pairs: Pairs, *, ratio: bool) -> Found:
    """The value with its interval: what leaving out one group after the other changes (the jackknife), by Student's t for so few; of a
    ratio on the scale of its logarithm. A bootstrap of five to nine groups would be narrower than it says.
    """
    value, count = value_of(pairs, ratio=ratio), len(pairs)
    if count < FEWEST:
        return Found(value)
    without = [value_of({name: pairs[name] for name in pairs if name != left_out}, ratio=ratio) for left_out in pairs]
    by_log = ratio and min(value, *without) > 0
    middle, *rest = (log(one) if by_log else one for one in (value, *without))
    error = sqrt((count - 1) / count * fsum((one - fsum(rest) / count) ** 2 for one in rest))
    reach = float(stdtrit(count - 1, 0.975)) * error
    low, high = middle - reach, middle + reach
    return Found(value, *(exp(low), exp(high)) if by_log else (low, high))


def median_of(values: Sequence[float]) -> Found:
    """The median of independent values, and by their ranks alone the bounds that hold it in at least 95 of 100 cases; below six values
    there are none (the least and the most of five hold it in 93.75).
    """
    ordered, n = sorted(values), len(values)
    outside, beyond = 0, 0.0
    while (beyond := beyond + 2 * comb(n, outside) / 2**n) <= 0.05:
        outside += 1
    if not outside:
        return Found(median(ordered))
    return Found(median(ordered), ordered[outside - 1], ordered[n - outside])


def group_of(row: Mapping[str, Any]) -> tuple[Any, ...]:
    """What was driven: rows of the same are one group."""
    return (*row["dates"], row["from_h"], row["hours"])


def paired(
    rows: Sequence[Mapping[str, Any]], density: str, fleet: str, policy: str, name: str, against: str = "nearest"
) -> dict[Any, list[tuple[float, float]]]:
    """Of one cell, the measure of `policy` beside that of `against`, pair by pair. A pair of which one has no such measure is left out."""
    cell = [row for row in rows if row["density"] == density and row["fleet"] == fleet and row[name] is not None]
    base = {(group_of(row), row["seed"]): row[name] for row in cell if row["policy"] == against}
    found: dict[Any, list[tuple[float, float]]] = {}
    for row in cell:
        key = group_of(row), row["seed"]
        if row["policy"] == policy and key in base:
            found.setdefault(key[0], []).append((row[name], base[key]))
    return found


def setting_of(row: Mapping[str, Any]) -> Setting:
    return row["window_s"], tuple(sorted(row["weights"].items()))


def ranked(rows: Sequence[Mapping[str, Any]], *, bound_waits: bool = True) -> list[tuple[float, bool, Setting]]:
    """The settings of a sweep, the best first: (score, whether it may be the default, setting).

    The rule: the score is the mean over all cells of pickup metres and median wait, each as a ratio to `nearest`, in equal parts: the one
    is the drivers' cost, the other the customers'. A default may make in no cell pickups more than 2 % longer and serve in none half a point
    less: so much was written before the first sweep was run. Two bounds came after the second: it may make in no cell the p95 wait more than
    2 % longer, and the wait already spent has to count (`wait_weight` above 0). `bound_waits=False`: without these two.
    """
    found = []
    cells = [(density, fleet) for density in STRETCHES for fleet in FLEETS]
    base = [row for row in rows if row["policy"] != "batch"]
    by_setting: dict[Setting, list[Mapping[str, Any]]] = {}
    for row in rows:
        if row["policy"] == "batch":
            by_setting.setdefault(setting_of(row), []).append(row)
    for setting, mine in by_setting.items():
        some = [*base, *mine]
        pickups, waits, served, long = (
            [value_of(paired(some, *cell, "batch", name), ratio=name != "served") for cell in cells]
            for name in ("pickup_m", "wait_p50_s", "served", "wait_p95_s")
        )
        fits = max(pickups) <= 1.02 and min(served) >= -0.005
        if bound_waits:
            fits = fits and max(long) <= 1.02 and dict(setting[1])["wait_weight"] > 0
        found.append((sum(pickups + waits) / (2 * len(cells)), fits, setting))
    return sorted(found, key=lambda one: (not one[1], one[0], str(one[2])))
