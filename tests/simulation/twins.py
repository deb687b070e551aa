"""One statement or call asked of a model and of the real store: the answers must be the same but for times."""

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import asyncpg
import orjson

from bench.simulation.judge import QUERIES, Session, Tables, providers
from bench.simulation.judge.statements import MODELS, run
from dispatch.kit.postgres import Actor, Postgres

_KIND = re.compile(r"^-- name: (?P<name>[a-z_]+) :(?P<kind>one|many|exec|value)\s*$", re.MULTILINE)
_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")
KINDS = {
    (room, found["name"]): found["kind"]
    for room, queries in QUERIES.items()
    for found in _KIND.finditer(queries.path.read_text(encoding="utf-8"))
}
_SETS = frozenset({"told", "excluded", "wake"})
"""Fields whose order no statement promises."""
_BAGS = frozenset(
    {
        "jobs_due",
        "users_changed",
        "offers_left_open",
        "providers_gone",
        "sockets_of_worker",
        "heads_beyond",
        "provider_states",
    }
)
"""Statements without an ORDER BY."""
TABLES = {
    "jobs": "SELECT id, status, round, version, customer_id, provider_id, provider_user_id, accept_id, offer_deadline, next_search_at, searched_until, expires_at, accepted_at, "
    "arrived_at, started_at, completed_at, cancelled_at, cancelled_by, cancellation_reason, distance_m, base_minor, actual_earnings_minor, trail_m, trail_fixes, "
    "provider_lat, provider_lng, estimated FROM jobs",
    "job_events": "SELECT job_id, version, from_status, to_status, round, actor_id, actor_role, reason FROM job_events",
    "offers": "SELECT offer_id, job_id, round, provider_id, provider_user_id, slot, status, reason, pickup_distance_m, expires_at, responded_at FROM offers",
    "inbox_head": "SELECT user_id, seq FROM inbox_head",
    "provider_gate": "SELECT provider_id, user_id, status, online, narrowed, cleared, suspend_due, status_ver FROM provider_gate",
    "sockets": "SELECT user_id, device, attempt, worker_id, conn_id, lost_at FROM sockets",
    "workers": "SELECT id FROM workers",
    "inbox_marks": "SELECT user_id, acked_seq FROM inbox_marks",
    "providers": "SELECT id, status, approved_at, suspended_at, suspension_cause, suspension_reason, rejection_reason, last_lat, last_lng, located_at FROM providers",
    "provider_log": "SELECT provider_id, what, actor_id, actor_role, reason FROM provider_log",
    "idem": "SELECT user_id, key, fingerprint, status FROM idem",
}


def plain(value: Any) -> Any:
    """As it can be compared: instants by their being there, JSON parsed, ids as text, records as dicts, bags sorted."""
    match value:
        case datetime():
            return "T"
        case UUID():
            return str(value)
        case bytes():
            return plain(orjson.loads(value))
        case str() if _INSTANT.fullmatch(value):
            return "T"
        case str() if value.startswith('{"'):
            return plain(orjson.loads(value))
        case float():
            return int(value) if value.is_integer() else round(value, 6)
        case asyncpg.Record() | dict():
            fields = {name: plain(field) for name, field in dict(value).items() if name != "riding_s"}
            return {name: as_bag(field) if name in _SETS else field for name, field in fields.items()}
        case list() | tuple():
            return [plain(item) for item in value]
    return value


def as_bag(items: Any) -> Any:
    """Rows in one order, whatever the order of their columns: those of the model and those of Postgres are not."""
    return (
        sorted(items, key=lambda row: json.dumps(row, sort_keys=True, default=repr))
        if isinstance(items, list)
        else items
    )


class Judges:
    """The model's tables beside a real database, with the same people in both."""

    def __init__(self, pg: Postgres, owner: "asyncpg.Connection[Any]") -> None:
        self.pg = pg
        self.owner = owner
        self.tables = Tables(lambda: datetime.now(UTC))
        self.asked: set[tuple[str, str]] = set()

    async def begin(self, users: Sequence[UUID], working: Sequence[tuple[UUID, UUID]]) -> None:
        """Empty both; `working` are (provider, user), approved and cleared for rides."""
        await self.owner.execute(
            "TRUNCATE jobs, job_events, offers, events, inbox_head, inbox_marks, sockets, workers, idem, providers, provider_gate, provider_log CASCADE"
        )
        await self.owner.execute(
            "INSERT INTO users (id, first_name, last_name, phone_number) SELECT u, 'Somchai', NULL, NULL FROM unnest($1::uuid[]) u ON CONFLICT DO NOTHING",
            list(users),
        )
        await self.owner.execute("UPDATE users SET blocked_at = NULL, access_at = NULL WHERE access_at IS NOT NULL")
        for number, (provider, user) in enumerate(working):
            await self.owner.execute(
                "INSERT INTO providers (id, user_id, first_name, last_name, email, phone_number, service_types, status, provider_uid, approved_at) "
                "VALUES ($1, $2, 'Somchai', 'Seeded', $3, $4, '{ride}', 'approved', $5, clock_timestamp())",
                provider, user, f"{number}@test.invalid", f"+66{number}", f"PRV-{number}",
            )  # fmt: skip
        await self.owner.execute("UPDATE provider_gate SET cleared = '{ride}', cleared_by = requirements_word()")
        self.tables = Tables(lambda: datetime.now(UTC))
        rows, now = self.tables.rows, datetime.now(UTC)
        rows["history"][True] = {"epoch": await self.owner.fetchval("SELECT epoch FROM history")}
        for user in users:
            rows["users"][user] = {"first_name": "Somchai", "last_name": None, "phone_number": None}
        for number, (provider, user) in enumerate(working):
            row = dict.fromkeys(
                [
                    "rating",
                    "suspended_at",
                    "suspension_cause",
                    "suspension_reason",
                    "rejection_reason",
                    "last_lat",
                    "last_lng",
                    "located_at",
                ]
            )
            row |= {
                "id": provider, "user_id": user, "provider_uid": f"PRV-{number}", "status": "approved", "first_name": "Somchai",
                "last_name": "Seeded", "email": f"{number}@test.invalid", "phone_number": f"+66{number}", "service_types": ["ride"],
                "service_radius_m": 10_000, "created_at": now, "approved_at": now,
            }  # fmt: skip
            rows["providers"][provider] = row
            rows["provider_gate"][provider] = providers.gate_of(row, ["ride"], now)

    async def ask(self, room: str, name: str, *args: Any, actor: Actor | None = None, role: str = "system") -> Any:
        """Both answers, which are equal; the real one is returned."""
        self.asked.add((room, name))
        sql, kind = QUERIES[room][name], KINDS[room, name]
        real, model = await self._really(sql, kind, args, actor, role), self._modelled(sql, args, actor, role)
        one, other = plain(real), plain(model)
        if kind == "exec":
            one = other = None
        if name in _BAGS:
            one, other = as_bag(one), as_bag(other)
        assert other == one, f"{room}.{name}{args}: the model says {other}, Postgres {one}"
        return real

    async def _really(self, sql: str, kind: str, args: Sequence[Any], actor: Actor | None, role: str) -> Any:
        doors = {"system": self.pg.system, "app": self.pg.app}
        try:
            async with self.pg.acting(actor) if actor is not None else doors[role]() as conn:
                call = {"one": conn.fetchrow, "many": conn.fetch, "value": conn.fetchval, "exec": conn.execute}[kind]
                return await call(sql, *args)
        except asyncpg.PostgresError as error:
            return {"error": type(error).__name__, "constraint": getattr(error, "constraint_name", None)}

    def _modelled(self, sql: str, args: tuple[Any, ...], actor: Actor | None, role: str) -> Any:
        session = Session(
            self.tables,
            "app" if actor is not None else role,
            actor and actor.user_id,
            actor is not None and actor.admin,
        )
        try:
            value = run(session, sql, args)
        except asyncpg.PostgresError as error:
            session.end()
            return {"error": type(error).__name__, "constraint": getattr(error, "constraint_name", None)}
        session.statement_done()
        session.commit()
        return value

    async def same_tables(self) -> None:
        """What either holds at the end."""
        for table, query in TABLES.items():
            real = [plain(row) for row in await self.owner.fetch(query)]
            names = [name.strip() for name in query.removeprefix("SELECT ").split(" FROM ")[0].split(",")]
            model = [plain({name: row.get(name) for name in names}) for row in self.tables.rows[table].values()]
            assert as_bag(model) == as_bag(real), f"{table} differs"
        real_events = [
            plain(row) for row in await self.owner.fetch("SELECT user_id, seq, name, body::text AS body FROM events")
        ]
        model_events = [
            plain({"user_id": fact["user_id"], "seq": fact["seq"], "name": fact["name"], "body": fact["body"]})
            for kept in self.tables.rows["events"].values()
            for fact in kept["rows"]
        ]
        assert as_bag(model_events) == as_bag(real_events), "events differ"

    async def age(self, table: str, column: str, seconds: float) -> None:
        """Set a column of all rows back, in both."""
        await self.owner.execute(f"UPDATE {table} SET {column} = {column} - make_interval(secs => $1)", seconds)
        for key, row in self.tables.rows[table].items():
            if row[column] is not None:
                self.tables.rows[table][key] = {**row, column: row[column] - timedelta(seconds=seconds)}


def modelled() -> set[tuple[str, str]]:
    return {(room, name) for room, name, _ in MODELS.values()}
