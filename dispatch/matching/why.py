"""Why a job was offered to whom: what each decision rested on, written down beside the offers and told in words to whoever asks."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import msgspec
import orjson

from dispatch.jobs import JobMissing
from dispatch.kit.clock import Clock
from dispatch.kit.postgres import Actor, Postgres
from dispatch.matching.batch import penalty_ms, way_ms
from dispatch.matching.model import Decision, Question, Reason, Search, Standing, Terms
from dispatch.matching.store import Q
from dispatch.presence import Candidate
from protocol.lifecycle import JobStatus
from protocol.resources.why import Considered, MatchRound, Outcome, OwnRound, WhyNotMe
from protocol.resources.why import Why as WhyAnswer

CONSIDERED_MAX: Final = 50
"""Of each round, of those found and of each kind of those left out. A broadcast finds a thousand; nobody reads them."""
WAITING_MAX: Final = 5_000
"""Rounds that wait to be written, per worker: Postgres may be away for 50 s at 100 rounds/s. What comes beyond is not explained."""
_TOGETHER: Final = 200
"""Rounds of one statement: a few milliseconds of the loop, and far from the time that a statement may take."""
ROUNDS_SHOWN: Final = 100
_UNKNOWN: Final = Standing()

REASONS: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        Reason.NEAREST: "The nearest free provider was chosen.",
        Reason.WAVE: "The nearest free providers were chosen.",
        Reason.EVERYBODY: "Everybody free within reach was chosen.",
        Reason.ASSIGNED: "One provider was chosen: the cheapest assignment of all jobs of these seconds gives this job to him.",
        Reason.NOBODY_NEAR: "Nobody free was found within reach.",
        Reason.OUTBID: "All who were near did more good with other jobs of these seconds.",
    },
    "th": {
        Reason.NEAREST: "เลือกผู้ให้บริการที่ว่างและอยู่ใกล้ที่สุด",
        Reason.WAVE: "เลือกผู้ให้บริการที่ว่างและอยู่ใกล้ที่สุดหลายคน",
        Reason.EVERYBODY: "เลือกทุกคนที่ว่างในระยะ",
        Reason.ASSIGNED: "เลือกผู้ให้บริการหนึ่งคน เพราะการจับคู่นี้ทำให้งานทั้งหมดในช่วงเวลานี้มีต้นทุนรวมต่ำที่สุด",
        Reason.NOBODY_NEAR: "ไม่พบผู้ให้บริการที่ว่างในระยะ",
        Reason.OUTBID: "ผู้ที่อยู่ใกล้เหมาะกับงานอื่นในช่วงเวลาเดียวกันมากกว่า",
    },
}
OUTCOMES: Final[Mapping[str, Mapping[str, str]]] = {
    "en": {
        Outcome.OFFERED: "Was asked.",
        Outcome.UNFIT: "Was chosen, and could not be asked any more: busy by then, switched off, or at the limit of what may be owed.",
        Outcome.OUTBID: "Did more good with another job of these seconds, or somebody else did with this one.",
        Outcome.BEHIND: "Others were nearer.",
        Outcome.HELD: "Was being asked about another job.",
        Outcome.LEFT_OUT: "Had declined this job, or an offer of it to him had ended before.",
    },
    "th": {
        Outcome.OFFERED: "ได้รับข้อเสนองานแล้ว",
        Outcome.UNFIT: "ถูกเลือกแต่ส่งงานให้ไม่ได้: ไม่ว่างแล้ว ปิดรับงาน หรือค้างชำระถึงวงเงิน",
        Outcome.OUTBID: "เหมาะกับงานอื่นในช่วงเวลาเดียวกันมากกว่า หรือมีผู้อื่นเหมาะกับงานนี้มากกว่า",
        Outcome.BEHIND: "มีผู้อื่นอยู่ใกล้กว่า",
        Outcome.HELD: "กำลังได้รับข้อเสนองานอื่นอยู่",
        Outcome.LEFT_OUT: "เคยปฏิเสธงานนี้ หรือข้อเสนองานนี้เคยสิ้นสุดไปแล้ว",
    },
}


@dataclass(frozen=True, slots=True)
class _Noted:
    """A round that waits to be written: the part of its question that will be, and that as it stands. What is told of each is worked out
    where nobody waits for an offer.
    """

    at: datetime
    job_id: UUID
    terms: Terms
    reason: Reason
    radius_m: float
    round: int
    found: Sequence[Candidate]
    standings: Mapping[UUID, Standing]
    """Of a whole window, whose rounds share them."""
    chosen: frozenset[UUID]
    offered: frozenset[UUID]
    held: Sequence[Candidate]
    left_out: Sequence[UUID]
    unfit: Sequence[UUID]


class Why:
    """One per worker. A worker that dies takes the last second of explanations with it: no promise hangs on them."""

    def __init__(self, pg: Postgres, clock: Clock) -> None:
        self._pg = pg
        self._clock = clock
        self._waiting: list[_Noted] = []
        self.dropped = 0
        """Rounds that nobody will be able to explain."""

    def note(
        self,
        question: Question,
        decision: Decision,
        search: Search,
        *,
        radius_m: float,
        round: int,
        offered: frozenset[UUID],
        held: Sequence[Candidate] = (),
        unfit: Sequence[UUID] = (),
    ) -> None:
        """A decision about `search`, and what the judge made of it: `offered` are the providers who got an offer, in `round`; 0: nobody. `held`:
        who was near or chosen, and held for other jobs. `unfit`: whom this search had tried before.
        """
        if len(self._waiting) >= WAITING_MAX:
            self.dropped += 1
            return
        job_id = search.job_id
        found = question.found.get(job_id, ())[:CONSIDERED_MAX]
        kept = frozenset(candidate.provider_id for candidate in found)
        noted = _Noted(
            at=self._clock.now(),
            job_id=job_id,
            terms=question.terms,
            reason=decision.reasons[job_id],
            radius_m=radius_m,
            round=round,
            found=found,
            standings=question.standings,
            chosen=kept.intersection(candidate.provider_id for candidate in decision.offers.get(job_id, ())),
            offered=kept & offered,
            held=held[:CONSIDERED_MAX],
            left_out=(*search.excluded[:CONSIDERED_MAX], *search.silent[:CONSIDERED_MAX]),
            unfit=tuple(unfit[:CONSIDERED_MAX]),
        )
        self._waiting.append(noted)

    async def write(self) -> None:
        """One turn: all that waits, some hundreds in a statement. What could not be written waits for the next turn."""
        noted, self._waiting = self._waiting, []
        written = 0
        try:
            while written < len(noted):
                some = noted[written : written + _TOGETHER]
                async with self._pg.system() as conn:
                    await conn.execute(
                        Q["rounds_note"],
                        [one.job_id for one in some],
                        [one.at for one in some],
                        [one.terms.policy for one in some],
                        [str(one.reason) for one in some],
                        [one.round for one in some],
                        [round(one.radius_m) for one in some],
                        [orjson.dumps(_considered(one)) for one in some],
                    )
                written += len(some)
        except BaseException:
            left = noted[written:]
            room = max(0, WAITING_MAX - len(self._waiting))
            self.dropped += max(0, len(left) - room)
            self._waiting[:0] = left[:room]
            raise

    async def forget(self, *, days: int, batch: int = 5_000) -> int:
        """Forget one batch of rounds older than `days`. Returns how many went."""
        async with self._pg.system() as conn:
            return int(await conn.fetchval(Q["rounds_forget"], days, batch))

    async def of(self, actor: Actor, job_id: UUID, locale: str) -> bytes:
        """Wire JSON of a Why. For an admin. Raises: JobMissing."""
        reasons, outcomes = REASONS[locale], OUTCOMES[locale]
        async with self._pg.acting(actor) as tx:
            status = await tx.fetchval(Q["status_of"], job_id)
            if status is None:
                raise JobMissing(f"no job {job_id}")
            rows = [
                (row, orjson.loads(row["considered"])) for row in await tx.fetch(Q["rounds_of"], job_id, ROUNDS_SHOWN)
            ]
            ids = {UUID(one["id"]) for _, considered in rows for one in considered}
            uids = {row["id"]: row["provider_uid"] for row in await tx.fetch(Q["uids_of"], list(ids))}
        rounds = [
            MatchRound(
                at=row["at"],
                policy=row["policy"],
                reason=row["reason"],
                text=reasons[row["reason"]],
                radius_m=row["radius_m"],
                considered=[_told(one, outcomes, uids) for one in considered],
                round=row["round"] or None,
            )
            for row, considered in rows
        ]
        return msgspec.json.encode(WhyAnswer(job_id, JobStatus(status), rounds))

    async def mine(self, actor: Actor, job_id: UUID, locale: str) -> bytes:
        """Wire JSON of a WhyNotMe: what became of the asker, and nothing of others. Raises: JobMissing, also for a job for which he was never
        considered: that it exists is not his to know.
        """
        outcomes = OUTCOMES[locale]
        async with self._pg.acting(actor) as tx:
            rows = await tx.fetch(Q["rounds_mine"], actor.user_id, job_id, ROUNDS_SHOWN)
        if not rows:
            raise JobMissing(f"no job {job_id} for which this provider was considered")
        rounds = []
        for row in rows:
            one = orjson.loads(row["mine"])
            rounds.append(
                OwnRound(
                    at=row["at"],
                    outcome=Outcome(one["outcome"]),
                    text=outcomes[one["outcome"]],
                    distance_m=one.get("distance_m"),
                    round=row["round"] or None,
                )
            )
        return msgspec.json.encode(WhyNotMe(job_id, rounds))


def _considered(noted: _Noted) -> Sequence[dict[str, Any]]:
    """The row's `considered`: nobody twice, the nearest first, and behind them those of whom the search did not ask where they were."""
    batch = noted.terms.policy == "batch"
    held = {candidate.provider_id for candidate in noted.held}
    lines: dict[str, dict[str, Any]] = {}

    def tell(who: UUID, outcome: Outcome, **more: float) -> None:
        key = str(who)
        lines.setdefault(key, {"id": key, "outcome": str(outcome), **more})

    for candidate in noted.found:
        who = candidate.provider_id
        if who in noted.offered:
            outcome = Outcome.OFFERED
        elif who in held:
            outcome = Outcome.HELD
        elif who in noted.chosen:
            outcome = Outcome.UNFIT
        else:
            outcome = Outcome.OUTBID if batch else Outcome.BEHIND
        if batch:
            standing = noted.standings.get(who, _UNKNOWN)
            cost_ms = way_ms(noted.terms, candidate.distance_m) + penalty_ms(noted.terms, standing)
            tell(who, outcome, distance_m=candidate.distance_m, cost_s=round(cost_ms / 1000, 1))
        else:
            tell(who, outcome, distance_m=candidate.distance_m)
    for candidate in noted.held:
        tell(candidate.provider_id, Outcome.HELD, distance_m=candidate.distance_m)
    for who in noted.left_out:
        tell(who, Outcome.LEFT_OUT)
    for who in noted.unfit:
        tell(who, Outcome.UNFIT)
    return list(lines.values())


def _told(one: Mapping[str, Any], texts: Mapping[str, str], uids: Mapping[UUID, str]) -> Considered:
    provider_id = UUID(one["id"])
    return Considered(
        provider_id=provider_id,
        outcome=Outcome(one["outcome"]),
        text=texts[one["outcome"]],
        provider_uid=uids.get(provider_id),
        distance_m=one.get("distance_m"),
        cost_s=one.get("cost_s"),
    )
