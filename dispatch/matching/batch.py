"""The batch policy: all jobs of a window and all who are free near them, assigned together at the least total cost.

A cost is in seconds: the way to the pickup at the market's speed, and penalties. As many jobs as can be get somebody; among all ways
to do that, the one with the least sum. What is not joined by any candidate is solved by itself: a city at night falls apart into
many small problems, and those of one job or one provider need no solver.
"""

import importlib
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from dispatch.markets import Market
from dispatch.matching.model import Decision, Question, Reach, Reason, Standing, Terms
from dispatch.presence import Candidate

NEIGHBOURS = 12
"""How many free providers near each job are weighed. Whoever is not among a job's twelve nearest is seldom its part of the cheapest
assignment, and the problem grows with it (docs/matching.md)."""
WAIT_WEIGHT = 0.3
"""Seconds of way that a second of waiting outweighs when there are more jobs than providers: nobody is left to wait for ever."""
IDLE_WEIGHT = 0.005
IDLE_MAX_S = 1_800.0
"""Who has been without work longer is a little cheaper, by 9 s of way after half an hour at most: fairness among near equals."""

_NOBODY = Standing()


class Batch:
    """One provider for each job of a window, together as near as can be."""

    def reach(self, market: Market, round: int) -> Reach:
        return Reach(NEIGHBOURS, market.radius_max_m)

    def decide(self, question: Question) -> Decision:
        offers: dict[UUID, Sequence[Candidate]] = {}
        reasons: dict[UUID, Reason] = {}
        for search in question.searches:
            near = question.found.get(search.job_id)
            reasons[search.job_id] = Reason.OUTBID if near else Reason.NOBODY_NEAR
        for jobs in components(question.found):
            for job_id, candidate in _assigned(question, jobs):
                offers[job_id] = (candidate,)
                reasons[job_id] = Reason.ASSIGNED
        return Decision(offers, reasons)


def acceptance_of(offered: int, accepted: int) -> float:
    """The share of his offers that a provider takes, 0 to 1: as if he had taken 8 of 10 before, so that the first no is no verdict."""
    return (accepted + 8) / (offered + 10)


def window_end_ms(now_ms: int, window_s: float) -> int:
    """When the window that is open at `now_ms` ends: windows follow each other on the clock, the same for all workers."""
    window_ms = round(window_s * 1000)
    return (now_ms // window_ms + 1) * window_ms


def cost_ms(terms: Terms, candidate: Candidate, standing: Standing, waited_s: float) -> int:
    """What it costs to send this candidate to a job that has waited so long, in whole milliseconds, so that sums are exact.

    Who takes few of his offers costs what his likely no does: the time of an offer that nobody answers, at the most.
    """
    way_s = candidate.distance_m * terms.detour_factor / terms.speed_mps
    likely_no_s = (1.0 - standing.acceptance) * terms.offer_ttl_s
    idle_s = min(standing.idle_s, IDLE_MAX_S)
    return round(1000 * (way_s + likely_no_s - IDLE_WEIGHT * idle_s - WAIT_WEIGHT * waited_s))


def components(found: Mapping[UUID, Sequence[Candidate]]) -> list[list[UUID]]:
    """Jobs that compete for somebody, directly or through others, together; each group and the list of them by id."""
    head: dict[UUID, UUID] = {}

    def root(job_id: UUID) -> UUID:
        while head[job_id] != job_id:
            head[job_id] = job_id = head[head[job_id]]
        return job_id

    first_of: dict[UUID, UUID] = {}
    jobs = sorted(job_id for job_id, near in found.items() if near)
    for job_id in jobs:
        head[job_id] = job_id
        for candidate in found[job_id]:
            other = first_of.setdefault(candidate.provider_id, job_id)
            if other is not job_id:
                one, two = root(other), root(job_id)
                if one != two:
                    head[max(one, two)] = min(one, two)
    groups: dict[UUID, list[UUID]] = {}
    for job_id in jobs:
        groups.setdefault(root(job_id), []).append(job_id)
    return list(groups.values())


def _assigned(question: Question, jobs: Sequence[UUID]) -> list[tuple[UUID, Candidate]]:
    """The cheapest assignment of one component: pairs of job and candidate. `jobs` are in the order of their ids."""
    terms, found, standings = question.terms, question.found, question.standings
    if len(jobs) == 1:
        near = found[jobs[0]]
        if len(near) == 1:
            return [(jobs[0], near[0])]
        best = min(
            near,
            key=lambda one: (cost_ms(terms, one, standings.get(one.provider_id, _NOBODY), 0.0), one.provider_id),
        )
        return [(jobs[0], best)]
    waited = {search.job_id: search.waited_s for search in question.searches}
    columns = {
        provider_id: column
        for column, provider_id in enumerate(
            sorted({candidate.provider_id for job_id in jobs for candidate in found[job_id]})
        )
    }
    rows_at: list[int] = []
    columns_at: list[int] = []
    costs: list[int] = []
    edges: dict[tuple[int, int], Candidate] = {}
    for row, job_id in enumerate(jobs):
        for candidate in found[job_id]:
            column = columns[candidate.provider_id]
            edges[row, column] = candidate
            rows_at.append(row)
            columns_at.append(column)
            standing = standings.get(candidate.provider_id, _NOBODY)
            costs.append(cost_ms(terms, candidate, standing, waited[job_id]))
    pairs = solve(len(jobs), len(columns), rows_at, columns_at, costs)
    return [(jobs[row], edges[row, column]) for row, column in pairs if (row, column) in edges]


def load_solver() -> None:
    """Bring scipy in: half a second that only markets with this policy pay, at start and not in their first window."""
    importlib.import_module("scipy.optimize")


def solve(
    rows: int, columns: int, rows_at: Sequence[int], columns_at: Sequence[int], costs: Sequence[int]
) -> list[tuple[int, int]]:
    """The assignment of rows to columns with the most pairs and, of those, the least sum of `costs`, the edges given as three lists.

    A pair that is no edge may be in the answer: it stands for nobody. scipy's solver is exact, always gives the same answer to the same
    matrix, and lets go of the interpreter's lock while it works.
    """
    import numpy
    from scipy.optimize import linear_sum_assignment

    # Dearer than any rearrangement of the others, so that as many get somebody as can; far below where floats stop being exact.
    dearest = max(costs)
    impossible = dearest + (dearest - min(costs) + 1) * min(rows, columns)
    matrix: Any = numpy.full((rows, columns), float(impossible))
    matrix[rows_at, columns_at] = costs
    chosen_rows, chosen_columns = linear_sum_assignment(matrix)
    return list(zip(chosen_rows.tolist(), chosen_columns.tolist(), strict=True))
