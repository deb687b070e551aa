"""The log of decisions: what the brain was asked and what it said, a JSON line each; and its replay.

A `Recorder` listens to a simulated world or to `Matching.on_decision` of a live server. The log is bounded; what comes after the bound is
counted and not kept. `replay` asks today's brain the same questions again. Nothing but decisions is in the file: of the same decisions
the same bytes.
"""

import gzip
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import orjson
import structlog

from dispatch.matching.model import Decision, Question, Search, Standing, Terms
from dispatch.matching.policies import decide
from dispatch.presence import Candidate

log = structlog.get_logger("matching")

LIMIT_BYTES = 256 * 1024 * 1024
"""Of JSON before it is packed: about a day of San Francisco under any policy but broadcast."""

_EARLIER = {"wave_size": 50}
"""What older logs lack: they chose all whom they found, and no market has larger waves."""


class Recorder:
    """Writes to a new file, packed. One per file, closed by the end of its `with` block; of a process that is killed the end is missing.
    Raises OSError.
    """

    def __init__(self, path: Path, *, limit_bytes: int = LIMIT_BYTES) -> None:
        self._raw = path.open("wb")
        # Neither its name nor the hour: gzip would write both.
        self._file = gzip.GzipFile(filename="", mode="wb", compresslevel=1, fileobj=self._raw, mtime=0)
        self._left = limit_bytes
        self.kept = 0
        self.left_out = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with self._raw:
                self._file.close()
        except OSError as refused:
            self._end(repr(refused))

    def __call__(self, question: Question, decision: Decision) -> None:
        """Never raises: no offer hangs on its being written down."""
        line = _line(question, decision)
        if len(line) > self._left:
            self._end("full")
            return
        try:
            self._file.write(line)
        except OSError as error:
            self._end(repr(error))
            return
        self._left -= len(line)
        self.kept += 1

    def _end(self, why: str) -> None:
        if not self.left_out:
            log.warning("the log of decisions ends", why=why, kept=self.kept)
        # Nothing shorter later either: a log with holes would look like a log without.
        self._left = 0
        self.left_out += 1


def _line(question: Question, decision: Decision) -> bytes:
    jobs = [
        [str(one.job_id), one.market, one.service_type, one.round, one.lat, one.lng, one.waited_s]
        for one in question.searches
    ]
    return orjson.dumps(
        {
            "at_ms": question.at_ms,
            "terms": asdict(question.terms),
            "jobs": jobs,
            "found": {
                str(job): [[str(one.provider_id), one.distance_m] for one in near]
                for job, near in question.found.items()
            },
            "standings": {str(who): [one.idle_s, one.acceptance] for who, one in question.standings.items()},
            **said(decision),
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def said(decision: Decision) -> dict[str, Any]:
    """The decision as it stands in a log; who gets no offer has no entry."""
    return {
        "offers": {str(job): [str(one.provider_id) for one in some] for job, some in decision.offers.items() if some},
        "reasons": {str(job): reason.value for job, reason in decision.reasons.items()},
    }


def asked(line: dict[str, Any]) -> Question:
    """The question of a line."""
    return Question(
        line["at_ms"],
        Terms(**_EARLIER | line["terms"]),
        [
            Search(UUID(job), market, kind, round, lat, lng, False, False, False, (), waited_s)
            for job, market, kind, round, lat, lng, waited_s in line["jobs"]
        ],
        {UUID(job): [Candidate(UUID(who), metres) for who, metres in near] for job, near in line["found"].items()},
        {UUID(who): Standing(*one) for who, one in line["standings"].items()},
    )


def lines(path: Path) -> Iterator[dict[str, Any]]:
    """Every decision of a log. Raises OSError, also for what is none."""
    with (
        gzip.open(path, "rb") as file,
        suppress(EOFError),
    ):  # whose writer was killed: what came before the end is whole
        for text in file:
            yield orjson.loads(text)


def replay(path: Path) -> tuple[int, list[dict[str, Any]]]:
    """(how many decisions, those that the brain makes otherwise today: the line, and what it says now)."""
    count, others = 0, []
    for line in lines(path):
        count += 1
        now = said(decide(asked(line)))
        if now["offers"] != line["offers"] or now["reasons"] != line["reasons"]:
            others.append({**line, "now": now})
    return count, others
