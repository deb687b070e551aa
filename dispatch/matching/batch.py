"""The batch policy: all jobs of a window and all who are free near them, assigned together at the least total cost.

A cost is in seconds: the way to the pickup at the market's speed, and penalties. As many jobs as can be get somebody; among all ways
to do that, the one with the least sum. What is not joined by any candidate is solved by itself: a city at night falls apart into
many small problems, and one of a single job needs no solver.
"""

import importlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from dispatch.markets import Market
from dispatch.matching.model import Decision, Question, Reach, Reason, Search, Standing, Terms
from dispatch.presence import Candidate

NEIGHBOURS = 12
"""How many free providers near each job are weighed. Whoever is not among a job's twelve nearest is seldom its part of the cheapest
assignment, and the problem grows with it (docs/matching.md)."""
WAIT_WEIGHT = 0.1
"""Seconds of way that a second of waiting outweighs when there are more jobs than providers: nobody is left to wait for ever. Of the weights
above nothing the best of the sweep; nothing at all is better by half a hundredth, and serves fewer where cabs are short (docs/matching.md)."""
IDLE_WEIGHT = 0.001
IDLE_MAX_S = 1_800.0
"""Who has been without work longer is a little cheaper, by 2 s of way after half an hour at most: fairness
among near equals. Neither five times as much nor nothing changed pickups by more than a hundredth in the sweep (docs/matching.md)."""
PATIENT_WAY_S = 150.0
PATIENT_SHARE = 1.5
"""Nobody is sent on a way longer than the first, and so much more for each second that the job has waited: somebody nearer may become
free, and he for a job that is nearer. Who has waited gets whom there is. With the window of 2 s the best of the sweep of those that leave nobody
to wait longer than `nearest` does, in the longest waits of a city; less patience with the way would shorten pickups further."""

_NOBODY = Standing()


@dataclass(frozen=True, slots=True)
class Batch:
    """One provider for each job of a window, together as near as can be. Weights other than the defaults are for whoever looks for better
    ones: `python -m bench simulate --sweep`.
    """

    neighbours: int = NEIGHBOURS
    wait_weight: float = WAIT_WEIGHT
    idle_weight: float = IDLE_WEIGHT
    patient_way_s: float = PATIENT_WAY_S
    patient_share: float = PATIENT_SHARE

    def reach(self, market: Market, round: int, waited_s: float = 0.0) -> Reach:
        way_s = self.patient_way_s + self.patient_share * waited_s
        return Reach(self.neighbours, min(market.radius_max_m, way_s * market.speed_mps / market.detour_factor))

    def decide(self, question: Question) -> Decision:
        reasons: dict[UUID, Reason] = {}
        rows: list[Search] = []
        for search in sorted(question.searches, key=lambda one: one.job_id.int):
            near = question.found.get(search.job_id)
            reasons[search.job_id] = Reason.OUTBID if near else Reason.NOBODY_NEAR
            if near:
                rows.append(search)
        offers: dict[UUID, Sequence[Candidate]] = {}
        for row, candidate in self._assigned(question, rows):
            offers[row.job_id] = (candidate,)
            reasons[row.job_id] = Reason.ASSIGNED
        return Decision(offers, reasons)

    def _assigned(self, question: Question, rows: Sequence[Search]) -> Iterator[tuple[Search, Candidate]]:
        """The cheapest assignment: pairs of job and candidate. `rows` are in the order of their ids and have candidates. Costs are whole
        milliseconds, so that sums are exact.

        Providers are numbered in the order of their ids: numbers instead of ids make this a third of its cost.
        """
        terms, found = question.terms, question.found
        who = sorted({candidate.provider_id.int for row in rows for candidate in found[row.job_id]})
        number = {provider: column for column, provider in enumerate(who)}
        penalties = [
            penalty_ms(terms, question.standings.get(UUID(int=provider), _NOBODY), self.idle_weight) for provider in who
        ]
        edges: list[dict[int, int]] = []
        for row in rows:
            # The same for all who may come: it counts where there are fewer of them than jobs.
            waited_ms = 1000 * self.wait_weight * row.waited_s
            costs: dict[int, int] = {}
            for candidate in found[row.job_id]:
                column = number[candidate.provider_id.int]
                costs[column] = round(way_ms(terms, candidate.distance_m) + penalties[column] - waited_ms)
            edges.append(costs)
        for component in components(edges):
            for at, column in solve([edges[row] for row in component]):
                row = rows[component[at]]
                provider = who[column]
                yield row, next(one for one in found[row.job_id] if one.provider_id.int == provider)


def acceptance_of(offered: int, accepted: int) -> float:
    """The share of his offers that a provider takes, 0 to 1: as if he had taken 8 of 10 before, so that the first no is no verdict."""
    return (accepted + 8) / (offered + 10)


def window_end_ms(now_ms: int, window_s: float) -> int:
    """When the window that is open at `now_ms` ends: windows follow each other on the clock, the same for all workers."""
    window_ms = round(window_s * 1000)
    return (now_ms // window_ms + 1) * window_ms


def way_ms(terms: Terms, distance_m: int) -> float:
    """The way to a pickup on the road."""
    return 1000 * distance_m * terms.detour_factor / terms.speed_mps


def penalty_ms(terms: Terms, standing: Standing, idle_weight: float = IDLE_WEIGHT) -> float:
    """What a provider costs on top of his way. Who takes few of his offers costs what his likely no does: the time of an offer that nobody
    answers, at the most.
    """
    return 1000 * ((1.0 - standing.acceptance) * terms.offer_ttl_s - idle_weight * min(standing.idle_s, IDLE_MAX_S))


def components(edges: Sequence[Iterable[int]]) -> list[list[int]]:
    """Rows that compete for a column, directly or through others, together; in order. `edges`: the columns of each row."""
    head = list(range(len(edges)))

    def root(row: int) -> int:
        while head[row] != row:
            head[row] = row = head[head[row]]
        return row

    first_of: dict[int, int] = {}
    for row, columns in enumerate(edges):
        mine = row
        for column in columns:
            other = first_of.setdefault(column, row)
            if other != row and (theirs := root(other)) != mine:
                mine, theirs = min(mine, theirs), max(mine, theirs)
                head[theirs] = mine
    groups: dict[int, list[int]] = {}
    for row in range(len(edges)):
        groups.setdefault(root(row), []).append(row)
    return list(groups.values())


def load_solver() -> None:
    """Bring scipy in: half a second that only markets with this policy pay, at start and not in their first window."""
    importlib.import_module("scipy.optimize")


def solve(rows: Sequence[Mapping[int, int]]) -> list[tuple[int, int]]:
    """(row, column): as many pairs as can be and, of all ways to have so many, the least sum. A row says what each column costs it.

    scipy's solver is exact, always gives the same answer to the same matrix, and lets go of the interpreter's lock while it works.
    """
    if len(rows) == 1:
        return [(0, min((cost, column) for column, cost in rows[0].items())[1])]
    import numpy
    from scipy.optimize import linear_sum_assignment  # type: ignore[import-untyped]

    columns = sorted({column for costs in rows for column in costs})
    at = {column: index for index, column in enumerate(columns)}
    values = [cost for costs in rows for cost in costs.values()]
    # Dearer than any rearrangement of the others, so that as many get somebody as can; far below where floats stop being exact.
    cheapest = min(values)
    span = max(values) - cheapest + 1
    matrix: Any = numpy.full((len(rows), len(columns)), float(span * (min(len(rows), len(columns)) + 1)))
    rows_at = numpy.repeat(numpy.arange(len(rows)), [len(costs) for costs in rows])
    matrix[rows_at, [at[column] for costs in rows for column in costs]] = numpy.array(values) - cheapest
    chosen: Any = linear_sum_assignment(matrix)
    pairs = zip(chosen[0].tolist(), chosen[1].tolist(), strict=True)
    return [(row, columns[index]) for row, index in pairs if columns[index] in rows[row]]
