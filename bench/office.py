"""`python -m bench office`: how long an office waits for its lists with many providers, and which indexes the lists read.

Each list is asked for again and again over HTTP, as an admin's browser does; then its query runs once more under auto_explain,
and the plans are shown: an index, or the whole table.
"""

import argparse
import asyncio
import re
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from uuid import UUID, uuid4

import asyncpg
import orjson

import dispatch
from bench.demo.command import at_least_one
from bench.figures import complete, full, ms, options, parsed, perform, show, spread, verdict
from bench.server import Running, server
from dispatch.kit.sql import Queries

MARKET = "bkk"
TARGET_MS, PROVIDERS = 200.0, 100_000
SLICES = Path(dispatch.__file__).parent
_SCAN = re.compile(
    r"(Seq Scan|Index Scan|Index Only Scan|Bitmap Index Scan)(?: Backward)?(?: using| on) (\w+)(?: on (\w+))?"
)

PEOPLE = """
UPDATE providers p SET created_at = clock_timestamp() - make_interval(secs => n.i), first_name = (ARRAY['Somchai', 'สมหญิง', 'Ahmad', 'Narong', 'ประเสริฐ'])[1 + n.i % 5],
  service_types = CASE WHEN n.i % 50 = 0 THEN '{laundry}'::text[] WHEN n.i % 5 = 0 THEN '{ride,delivery}' ELSE '{ride}' END,
  status = CASE WHEN n.i % 10 = 0 THEN 'pending_verification' WHEN n.i % 100 = 1 THEN 'suspended' ELSE status END,
  suspension_reason = CASE WHEN n.i % 100 = 1 THEN 'bench' END, suspension_cause = CASE WHEN n.i % 100 = 1 THEN 'admin' END
FROM (SELECT id, row_number() OVER (ORDER BY id) AS i FROM providers) n WHERE n.id = p.id;
UPDATE provider_gate g SET status = p.status, online = p.status = 'approved' AND hashtext(p.id::text) % 3 = 0 FROM providers p WHERE p.id = g.provider_id;
UPDATE provider_documents d SET status = 'pending', verified_at = NULL, uploaded_at = p.created_at FROM providers p
  WHERE p.id = d.provider_id AND p.status = 'pending_verification';
INSERT INTO audit_log (id, at, actor_id, action, subject, subject_id)
  SELECT gen_random_uuid(), p.created_at, gen_random_uuid(), 'approve', 'provider', p.id FROM providers p;
INSERT INTO support_tickets (id, user_id, category, subject, body, status, created_at)
  SELECT gen_random_uuid(), p.user_id, 'app', 'subject', 'body', CASE WHEN hashtext(p.id::text) % 20 = 0 THEN 'open' ELSE 'closed' END, p.created_at FROM providers p;
UPDATE users u SET first_name = p.first_name, blocked_at = CASE WHEN hashtext(u.id::text) % 500 = 0 THEN clock_timestamp() END FROM providers p WHERE p.user_id = u.id;
INSERT INTO notifications (id, recipient_id, type, locale, title, body, data, dedupe_key, created_at)
  SELECT gen_random_uuid(), p.user_id, 'application_approved', 'th', 'title', 'body', '{}', 'bench', p.created_at FROM providers p;
INSERT INTO notification_deliveries (notification_id, channel, status, created_at)
  SELECT n.id, 'email', CASE WHEN hashtext(n.id::text) % 1000 = 0 THEN 'dead' ELSE 'sent' END, n.created_at FROM notifications n;
ANALYZE;
"""
"""A city's worth of people out of the seeded ones: names in three scripts, a tenth waiting for review, a hundredth suspended."""

START, NOBODY = datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)
FIRST = (datetime(9999, 1, 1, tzinfo=UTC), UUID(int=2**128 - 1))
LISTS: list[tuple[str, str, tuple[str, str], tuple[Any, ...]]] = [
    ("newest", "providers", ("admin", "providers_found"), (None, None, None, None, *FIRST, 51)),
    (
        "deep in the list",
        "providers?cursor={deep}",
        ("admin", "providers_found"),
        (None, None, None, None, "{deep_at}", "{deep_id}", 51),
    ),
    ("name in Latin", "providers?search=mchai", ("admin", "providers_found"), ("mchai", None, None, None, *FIRST, 51)),
    ("name in Thai", "providers?search=หญิง", ("admin", "providers_found"), ("หญิง", None, None, None, *FIRST, 51)),
    ("two letters", "providers?search=so", ("admin", "providers_found"), ("so", None, None, None, *FIRST, 51)),
    ("phone", "providers?search={phone}", ("admin", "providers_found"), ("{phone}", None, None, None, *FIRST, 51)),
    ("e-mail", "providers?search={email}", ("admin", "providers_found"), ("{email}", None, None, None, *FIRST, 51)),
    ("provider_uid", "providers?search={uid}", ("admin", "providers_found"), ("{uid}", None, None, None, *FIRST, 51)),
    (
        "everybody's e-mail",
        "providers?search=seed.invalid",
        ("admin", "providers_found"),
        ("seed.invalid", None, None, None, *FIRST, 51),
    ),
    ("nobody", "providers?search=xyzzyx", ("admin", "providers_found"), ("xyzzyx", None, None, None, *FIRST, 51)),
    (
        "suspended",
        "providers?status=suspended",
        ("admin", "providers_found"),
        (None, "suspended", None, None, *FIRST, 51),
    ),
    (
        "launderers",
        "providers?service_type=laundry",
        ("admin", "providers_found"),
        (None, None, "laundry", None, *FIRST, 51),
    ),
    ("online", "providers?online=true", ("admin", "providers_found"), (None, None, None, True, *FIRST, 51)),
    ("verification queue", "verification", ("providers/review", "verification_queue"), (START, NOBODY, 51)),
    ("users by name", "users?search=mchai", ("admin", "users_found"), ("mchai", None, None, *FIRST, 51)),
    ("users", "users", ("admin", "users_found"), (None, None, None, *FIRST, 51)),
    ("blocked users", "users?blocked=true", ("admin", "users_found"), (None, None, True, *FIRST, 51)),
    ("deliveries", "deliveries", ("notifications", "deliveries_page"), (None, *FIRST, 51)),
    ("dead deliveries", "deliveries?status=dead", ("notifications", "deliveries_in"), ("dead", None, *FIRST, 51)),
    ("audit log", "audit", ("admin", "audit_all"), (*FIRST, 51)),
    ("audit of one", "audit?subject_id={subject}", ("admin", "audit_of_subject"), ("{subject}", *FIRST, 51)),
    ("tickets", "tickets", ("support", "tickets_all"), (*FIRST, 51)),
    ("open tickets", "tickets?status=open", ("support", "tickets_in"), ("open", *FIRST, 51)),
]
"""(name, path below /v1/admin/, where the query stands, its arguments); words in {} are filled in from the data."""


def parser() -> argparse.ArgumentParser:
    found = options("office", "An office's lists with many providers.")
    found.add_argument("--providers", type=at_least_one, default=PROVIDERS, help="(default: 100000)")
    found.add_argument("--asks", type=at_least_one, default=40, help="per list (default: 40)")
    return found


SHORT: Final = {"providers": 2_000, "asks": 5}


async def scenario(shown: argparse.Namespace) -> tuple[dict[str, Any], int]:
    """Raises StageError, EmbeddedError."""
    async with server(
        market=MARKET, providers=shown.providers, customers=0, workers=shown.workers, market_overrides={}, say=print
    ) as running:
        judge = await asyncpg.connect(running.stage.database_url, server_settings={"search_path": "dispatch"})
        try:
            await judge.execute(PEOPLE)
            facts = await facts_of(judge)
            token = admin_token()
            found: list[dict[str, Any]] = []
            for name, path, (slice_name, query), given in LISTS:
                took = await asked(running, path.format(**facts), token, shown.asks)
                arguments = [facts[one[1:-1]] if isinstance(one, str) and one.startswith("{") else one for one in given]
                scans = await plans(judge, Queries(SLICES / slice_name / "queries.sql")[query], arguments)
                found.append({"list": name, **spread(took, "ms", (0.5, 0.95)), "scans": scans})
                print(f"{name}: {', '.join(scans)}")
        finally:
            await judge.close()
        limit = TARGET_MS if full(shown, (shown.providers, PROVIDERS)) else None
        show(
            f"lists of an office, {shown.providers:,} providers",
            [(row["list"], f"p95 {ms(row['ms_p95'])}", verdict(row["ms_p95"], limit, "ms")) for row in found],
        )
        slowest = max(row["ms_p95"] or 0.0 for row in found)
        figures = {"lists": found, "slowest_p95_ms": slowest}
        return complete(figures, shown, running.stage.versions), 0


async def facts_of(judge: "asyncpg.Connection[Any]") -> dict[str, Any]:
    """What is asked about: somebody in the middle of the list."""
    row = await judge.fetchrow(
        "SELECT * FROM providers ORDER BY created_at DESC, id DESC OFFSET (SELECT count(*) / 2 FROM providers) LIMIT 1"
    )
    assert row is not None
    return {
        "deep": urlsafe_b64encode(f"{row['created_at'].isoformat()} {row['id']}".encode()).decode(),
        "deep_at": row["created_at"],
        "deep_id": row["id"],
        "phone": row["phone_number"][-8:],
        "email": row["email"][:12],
        "uid": (row["provider_uid"] or "")[:14],
        "subject": row["id"],
    }


def admin_token() -> str:
    """A token as an operator makes one."""
    command = [sys.executable, "-m", "dispatch", "token", "--user", str(uuid4()), "--role", "admin"]
    return subprocess.run(command, check=True, capture_output=True, text=True, timeout=60).stdout.strip()


async def asked(running: Running, path: str, token: str, times: int) -> list[float]:
    """Milliseconds of each ask; the first two are not counted. Raises RuntimeError for an answer that is none."""
    took = []
    url = f"{running.stage.url}/v1/admin/{path}"
    for number in range(times + 2):
        start = time.perf_counter()
        async with running.http.get(url, headers={"Authorization": f"Bearer {token}"}) as answer:
            body = await answer.read()
            if answer.status != 200:
                raise RuntimeError(f"{url}: {answer.status} {body[:300]!r}")
        if number >= 2:
            took.append((time.perf_counter() - start) * 1000)
        assert "items" in orjson.loads(body)
        await asyncio.sleep(0.06)  # under the limit of one user
    return took


async def plans(judge: "asyncpg.Connection[Any]", query: str, arguments: list[Any]) -> list[str]:
    """How the tables were read, nested functions included: «index name» or «Seq Scan of table»."""
    said: list[str] = []

    def heard(_: object, message: Any) -> None:
        said.append(message.message)

    judge.add_log_listener(heard)
    try:
        await judge.execute(
            "LOAD 'auto_explain'; SET auto_explain.log_min_duration = 0; SET auto_explain.log_nested_statements = on; SET client_min_messages = log"
        )
        async with judge.transaction():
            await judge.execute("SET LOCAL ROLE dispatch_app; SET LOCAL app.admin = 'on'; SET LOCAL jit = off")
            await judge.fetch(query, *arguments)
    finally:
        judge.remove_log_listener(heard)
        await judge.execute("SET auto_explain.log_min_duration = -1; SET client_min_messages = notice")
    scans: dict[str, None] = {}
    for text in said:
        for how, first, second in _SCAN.findall(text):
            scans[f"Seq Scan of {first}" if how == "Seq Scan" else first] = None
    return list(scans)


def main(args: list[str]) -> int:
    """Run it; the exit code."""
    return perform(scenario, parsed(parser(), args, SHORT))
