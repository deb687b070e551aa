"""Which statement is answered by which model: by the text of the slices' `queries.sql`. What nobody modelled fails loudly."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import dispatch
from bench.simulation.judge.tables import Session
from dispatch.kit.sql import Queries

Model: TypeAlias = Callable[..., Any]
"""(session, *arguments) → rows of `:many`, a row or None of `:one`, a value of `:value`, anything of `:exec`."""

SLICES = ("inbox", "claims", "matching", "jobs", "providers", "accounts", "audit")

OUTSIDE: dict[str, frozenset[str]] = {
    "inbox": frozenset({"events_forget"}),
    "matching": frozenset(
        {
            "offers_unheard", "offers_board", "jobs_board", "waits", "standings", "rounds_note", "rounds_forget", "rounds_of", "rounds_mine",
            "status_of", "uids_of",
        }
    ),
    "jobs": frozenset({"job_view", "job_row", "jobs_of", "jobs_all", "jobs_stuck", "trail_add", "jobs_by_status", "job_events_next"}),
    "providers": frozenset(
        {
            "provider_register", "provider_uid_known", "provider_mine", "provider_patch", "submit", "reapply", "documents_missing",
            "requirements_set", "gates_stale", "gate_try", "ban", "seed_users", "seed_providers", "seed_papers",
        }
    ),
}  # fmt: skip
"""Statements of these slices that no part of the simulated core runs: registration, lists of an office, gauges, old age, windows of the policy `batch`,
explanations. Of accounts only the request ids are modelled, and who is shut out.
"""

QUERIES: dict[str, Queries] = {name: Queries(Path(dispatch.__file__).parent / name / "queries.sql") for name in SLICES}
MODELS: dict[str, tuple[str, str, Model]] = {}
"""SQL text → (slice, name, model)."""


class UnknownStatement(BaseException):
    """The server ran a statement that has no model. A BaseException: no loop of the server may take it for bad weather."""


def models(slice_name: str, name: str) -> Callable[[Model], Model]:
    """Say which statement a function is the model of. Raises KeyError where `queries.sql` has none of that name."""

    def keep(model: Model) -> Model:
        MODELS[QUERIES[slice_name][name]] = (slice_name, name, model)
        return model

    return keep


def model_of(sql: str) -> tuple[str, Model]:
    """(name, model). Raises UnknownStatement."""
    found = MODELS.get(sql)
    if found is None:
        named = next(
            (f"{room}.{n}" for room, queries in QUERIES.items() for n, text in queries.items() if text == sql), sql
        )
        raise UnknownStatement(f"no model of the statement {named}")
    return found[1], found[2]


def run(db: Session, sql: str, args: tuple[Any, ...]) -> Any:
    return model_of(sql)[1](db, *args)


def name_of(sql: str) -> str:
    """For traces."""
    found = MODELS.get(sql)
    return sql[:8] if found is None else found[1]
