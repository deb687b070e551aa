"""The peers do the work that they are measured by, and do it right; ratios are of the same run; without Node its peers say why they stay away."""

import asyncio
import json
import random
import re
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, nullcontext
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import aiohttp
import asyncpg
import pytest

from bench.accepts import Contest, Race, Score, play
from bench.demo.stage import Person
from bench.fleet import Answered, FleetError, unframed
from bench.offers import Seen
from bench.peers import packages
from bench.peers.command import attempted, kinds_here, peer_stores
from bench.peers.judge import functions
from bench.peers.line import PeerPhone, SocketIoPhone, own_offer
from bench.peers.packages import NoNode
from bench.peers.races import AFTERMATH_S, crowd, racers, races
from bench.peers.ratios import DEMANDED, compare
from bench.peers.sides import NAMES, SCRIPTS, VARIANTS, Peer, PeerStores, Side, peer
from bench.peers.works import (
    SHORT,
    Sample,
    arrive,
    hang_up,
    offers,
    positions,
    searchable,
    tracking,
    turns,
    weigh,
    wrong_places,
)
from bench.server import Usage
from protocol.frames import Accept, Event, Reply
from protocol.lifecycle import ServiceType

ROOT = Path(__file__).parents[2]
TINY = replace(
    SHORT, runs=1, sockets=20, rates=(60.0,), warm_s=0.2, run_s=0.6, jobs_per_s=10.0, offers_s=0.8, hold_s=0.2, grace_s=10.0, customers=5,
    crowd=8, racers=6, races=2, idle_first=5, settle_s=0.2, quiet_s=0.2, pairs=4, judged=40,
)  # fmt: skip


async def test_every_peer_that_can_run_here_does_every_work() -> None:
    """All kinds beside each other, on one pair of stores; where Node is missing, what could run has run before that is said."""
    kinds, skipped = kinds_here(list(NAMES))
    async with peer_stores() as (made, _), asyncio.TaskGroup() as group:
        for kind in kinds:
            group.create_task(does_every_work(kind, made))
        group.create_task(functions_alone_all_win(made))
    if skipped:
        pytest.skip("; ".join(f"{NAMES[kind]}: {why}" for kind, why in skipped.items()))


async def does_every_work(kind: str, made: PeerStores) -> None:
    async with AsyncExitStack() as stack:
        peers = [await stack.enter_async_context(peer(kind, variant, made, 2)) for variant in VARIANTS]
        placed = await of(positions, peers)
        for one in placed:
            assert one["positions"] > 0
            assert (one["misplaced"], one["lines_lost"]) == (0, 0), one
            # Only the store that it works with: what the other does meanwhile another peer has left it.
            assert one["cpu_us"]["postgres" if kind in SCRIPTS else "redis"] == 0
        # Of both together: one alone may have used less than a tick.
        assert sum(one["cpu_us"]["server"] for one in placed) > 0
        for one in await of(offers, peers):
            # Jobs count by their asking, offers by their stamp: a slow machine has fewer of these in the time, but each whole.
            assert (one["jobs_without_offer"], one["requests_failed"]) == (0, {}) and one["jobs"] > 0, one
            assert (one["offers_never_seen"], one["offers_seen_without_stamp"], one["offers"] % 5) == (0, 0, 0), one
        for one in await of(tracking, peers):
            # `best` and a loop that is held up tell the newest only; more than was sent nobody can have heard.
            assert 0 < one["frames"] <= one["positions"] + TINY.pairs, one
            assert 0 <= one["age_ms_p50"] < 5_000
        for contest in (crowd(TINY), racers(TINY)):
            raced: list[Sample] = []
            await races(peers, TINY, contest, raced)
            for one in raced:
                assert one["double_assignments"] == 0, one
                assert one["offers"] == one["jobs"] * contest.wave
                assert one["measured_s"] >= contest.rounds * AFTERMATH_S, "what follows an answer is in its cost"
                if contest.jobs == 1:
                    assert one["jobs_accepted"] == one["jobs"] == TINY.races
                    assert one["answers"] == {"ok": TINY.races, "?": TINY.races * (TINY.racers - 1)}
        for side in peers:
            weight = await weigh(0, side, TINY)
            assert isinstance(weight["rss_kib_per_socket"], float)
        for side in peers:
            await found_where_he_is(side)
            await no_token_no_socket(side)


async def of(work: Callable[..., Awaitable[None]], sides: Sequence[Side]) -> list[Sample]:
    samples: list[Sample] = []
    await work(sides, TINY, samples)
    return samples


async def found_where_he_is(side: Peer) -> None:
    """A position is what a search goes by: a job beside the second place of a provider is his, one beside the first is not."""
    away, near, centre = (13.90, 100.70), (13.70, 100.50), (13.7001, 100.5001)
    seen = Seen()
    phones = side.phones([near, near, away], seen.event)
    await side.fresh(len(phones))
    await arrive(side, phones)
    assert await searchable(side, phones)
    (customer,) = side.customers(1, 2, 0.0)
    pickup = {"lat": centre[0], "lng": centre[1], "address": "here"}
    before = await customer.create_job(ServiceType.RIDE, pickup)
    assert set(before["providers"]) == {phones[0].provider_id, phones[1].provider_id}
    moved = phones[2]
    moved.lat, moved.lng = moved.sent = centre
    phones[0].lat, phones[0].lng = phones[0].sent = away
    for phone in (moved, phones[0]):
        phone.locate(b"2026-01-01T00:00:00.000Z")
    assert await wrong_places(side, phones) == 0
    after = await customer.create_job(ServiceType.RIDE, pickup)
    assert set(after["providers"]) == {phones[1].provider_id, moved.provider_id}
    job, offer = UUID(after["id"]), UUID(own_offer(after["offer_id"], str(moved.provider_id)))
    yes, no = [await phone.ask(Accept(id=uuid4(), job_id=job, offer_id=offer, round=1)) for phone in (moved, phones[1])]
    assert (yes.reply.ok, no.reply.ok) == (True, False)
    await customer.cancel(job)
    # Whoever hangs up can come back at once: nothing of the old line is left to disturb the new one.
    await hang_up(phones)
    await arrive(side, phones)
    await hang_up(phones)


async def no_token_no_socket(side: Peer) -> None:
    kind = SocketIoPhone if side.kind == "socketio" else PeerPhone
    stranger = kind(side.url, Person(str(uuid4()), "not.a.token"), 0.0, 0.0)
    with pytest.raises(FleetError, match=f"{side.name}.*401"):
        await arrive(side, [stranger])


async def functions_alone_all_win(made: PeerStores) -> None:
    samples: list[Sample] = []
    await functions(made, replace(TINY, runs=2), samples)
    assert {(one["run"], one["side"], one["accepts"]) for one in samples} == {
        (run, side, TINY.judged // 2) for run in (0, 1) for side in ("bare_update", "ours", "postgres_design")
    }, "of so few the first half warms up, and the rehearsal is nobody's run"
    ratios = compare(samples)
    assert ratios["accepts_per_s_vs_bare_update"]["runs"] == 2
    connection = await asyncpg.connect(made.database_url)
    try:
        # Without it the plans of the first run are made for tables that were empty when they were analysed.
        assert await connection.fetchval("SELECT count(*) FROM dispatch.bare_job") == TINY.judged * 3, (
            "two and a rehearsal"
        )
    finally:
        await connection.close()


def test_ours_is_measured_in_the_same_run(tmp_path: Path) -> None:
    file = tmp_path / "peers.json"
    command = [
        sys.executable,
        "-m",
        "bench",
        "peers",
        "--short",
        "--runs",
        "1",
        "--only",
        "positions",
        "--against",
        "postgres",
    ]
    done = subprocess.run(
        [*command, "--json", str(file)], cwd=ROOT, capture_output=True, text=True, timeout=170, check=False
    )
    assert done.returncode == 0, done.stdout[-2_000:] + done.stderr[-4_000:]
    found = json.loads(file.read_bytes())
    assert {"machine", "versions", "commit", "options", "date", "load_average_before", "noisy"} <= found.keys()
    assert found["ratios"]["position_cpu_vs_postgres"] > 0
    spread = found["ratio_spreads"]["position_cpu_vs_postgres"]
    assert (spread["runs"], spread["dropped"], spread["void"], spread["verdict"]) == (1, 0, 0, "")
    assert {name for name in DEMANDED if found["ratios"][name] is None} == DEMANDED.keys() - {
        "position_cpu_vs_postgres"
    }
    tables = {one["title"]: one["rows"] for one in found["tables"]}
    rows = {row[0]: row[1:] for row in tables["the machine meanwhile, and what is missing"]}
    assert {
        "machine",
        "others beside ours",
        "others beside postgres usual",
        "others beside postgres best",
    } == rows.keys()
    assert not any(
        word in cell for rows in tables.values() for row in rows for cell in row for word in (": met", "MISSED")
    )
    assert {one["side"] for one in found["samples"]} == {"ours", "postgres_usual", "postgres_best"}
    assert all(one["misplaced"] == 0 for one in found["samples"])
    assert "what each does not guarantee" in done.stdout and "row lock" in done.stdout


# --- what is pure


def test_every_side_has_its_turn_in_every_run() -> None:
    order = [(run, side) for run, side in turns(["a", "b", "c"], 2)]  # type: ignore[list-item]
    assert order == [(0, "a"), (0, "b"), (0, "c"), (1, "c"), (1, "b"), (1, "a")]


async def test_a_work_that_fails_is_told_and_what_it_had_measured_stays(capfd: pytest.CaptureFixture[str]) -> None:
    samples: list[Sample] = []
    failed: dict[str, str] = {}

    async def slow() -> None:
        samples.append({"work": "accepts"})
        async with asyncio.timeout(0):
            await asyncio.Event().wait()

    async def dropped() -> None:
        async with asyncio.TaskGroup() as group:
            for _ in range(2):
                group.create_task(refused())

    async def refused() -> None:
        raise aiohttp.ServerDisconnectedError

    async def full() -> None:
        raise FleetError("ours: some were not\nfound")

    for name, work in (("accepts", slow()), ("tracking", dropped()), ("sockets", full())):
        await attempted(name, work, failed)
    assert len(samples) == 1
    assert failed == {
        "accepts": "TimeoutError",
        "tracking": "ServerDisconnectedError: Server disconnected",
        "sockets": "ours: some were not found",
    }
    told = capfd.readouterr()
    assert told.out.count("could not be measured") == 3 and "in refused" in told.err

    async def ended() -> None:
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await attempted("offers", ended(), failed)


async def test_a_races_cost_counts_for_a_while_after_its_last_answer() -> None:
    """What a win leaves to be done is the race's; what cancelling does is not."""
    looks: list[tuple[int, bool]] = []
    cancelled = False
    answered_ns = 0

    def usage() -> Usage:
        looks.append((time.monotonic_ns(), cancelled))
        return Usage(0, 0, 0, 0, 0, time.monotonic())

    class Asker:
        async def create_job(self, service_type: ServiceType, pickup: object, /) -> dict[str, Any]:
            offer = {"job": {"id": job}, "offer_id": str(uuid4()), "round": 1}
            race.event(phone, Event(seq=0, name="offer.created", at=datetime.now(UTC), data=offer), 0)
            return {"id": job}

        async def cancel(self, job_id: UUID, /) -> dict[str, Any]:
            nonlocal cancelled
            cancelled = True
            return {}

    class Finger:
        provider_id = "him"

        async def ask(self, frame: Accept) -> Answered:
            nonlocal answered_ns
            answered_ns = time.monotonic_ns()
            return Answered(Reply(id=frame.id, ok=True), answered_ns, 1)

    job = str(uuid4())
    phone: Any = Finger()
    race = Race(1, Score())
    kind = Contest(1, 1, 1, 1, 1, aftermath_s=0.2)
    customers: Any = [Asker()]
    await play(race, customers, (13.7, 100.5), [], kind, random.Random(1), usage)
    (_, _), (last_ns, too_late) = looks
    assert last_ns - answered_ns >= 0.2e9 and not too_late and cancelled
    assert AFTERMATH_S >= 0.5


async def test_what_a_side_uses_anyway_is_looked_at_when_connecting_is_over(monkeypatch: pytest.MonkeyPatch) -> None:
    looks: list[float] = []
    arrived = 0.0

    class Still:
        name = "still"

        def usage(self) -> Usage:
            looks.append(time.monotonic())
            return Usage(0, 0, 0, 0, 0, looks[-1])

        def phones(self, places: object, on_event: object) -> list[Any]:
            return []

        def customers(self, count: int, wave: int, patience_s: float) -> list[Any]:
            return []

        async def fresh(self, providers: int) -> None: ...

        async def places(self, phones: object) -> list[Any]:
            nonlocal arrived
            arrived = time.monotonic()
            return []

    monkeypatch.setattr("bench.peers.races.Drive", lambda *_: nullcontext())
    scale = replace(TINY, settle_s=0.2, quiet_s=0.1)
    side: Any = Still()
    samples: list[Sample] = []
    await races([side], scale, replace(racers(scale), rounds=0), samples)
    assert looks[0] - arrived >= 0.2 and looks[1] - looks[0] >= 0.1 and len(looks) == 2
    assert samples[0]["accepts_per_s"] == 0, "nobody has won"


class Wire:
    """Stands for a transport: what was written."""

    def __init__(self) -> None:
        self.written: list[bytes] = []

    def write(self, data: bytes) -> None:
        self.written.append(data)

    def is_closing(self) -> bool:
        return False


def test_socket_io_frames() -> None:
    heard: list[Event] = []
    phone = SocketIoPhone(
        "http://127.0.0.1:1", Person(str(uuid4()), "tok"), 13.5, 100.25, lambda _p, event, _n: heard.append(event)
    )
    wire = Wire()
    phone._transport = wire  # type: ignore[assignment]
    phone._text(b'0{"sid":"x"}', 1)
    phone._text(b"2", 1)
    phone.locate(b"2026-01-01T00:00:00.000Z")
    sent = [payload for data in wire.written for _, payload in unmasked(data)]
    assert sent[:2] == [b'40{"token":"tok"}', b"3"]
    assert re.fullmatch(
        rb'42\["location",\{"type":"location","lat":13\.5\d+,"lng":100\.25\d*,"at":"2026[^"]+"\}\]', sent[2]
    )
    offer = str(uuid4())
    phone._text(b'42["offer.created",{"offer_id":"%b","round":1}]' % offer.encode(), 7)
    phone._text(b'42["welcome"]', 8)
    (event,) = heard
    assert (event.name, event.data["offer_id"]) == ("offer.created", own_offer(offer, phone.person.user_id))


def unmasked(data: bytes) -> list[tuple[int, bytes]]:
    """Client frames, whose mask is four zeros, as server frames."""
    head = 2 if data[1] & 0x7F < 126 else 4
    frames, rest = unframed(bytes((data[0], data[1] & 0x7F)) + data[2:head] + data[head + 4 :])
    assert rest == b""
    return frames


def test_without_node_its_peers_say_why_they_stay_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    assert kinds_here(["node_ws", "postgres", "socketio"])[0] == ["postgres"]
    said = capsys.readouterr().out
    assert "Node ws is skipped: node is not installed" in said and "Socket.IO is skipped" in said


def test_an_install_that_fails_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    programs = tmp_path / "bin"
    programs.mkdir()
    for name, body in (("node", "echo v22.0.0"), ("npm", "echo no such package >&2; exit 1")):
        (programs / name).write_text(f"#!/bin/sh\n{body}\n")
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:/usr/bin:/bin")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with pytest.raises(NoNode, match="no such package"):
        packages.ready(print)
    (programs / "node").write_text("#!/bin/sh\necho v18.1.0\n")
    with pytest.raises(NoNode, match=r"18\.1\.0 is too old"):
        packages.ready(print)


def test_the_lock_pins_everything_and_names_no_registry() -> None:
    wanted = json.loads((packages.SOURCES / "package.json").read_bytes())["dependencies"]
    text = (packages.SOURCES / "package-lock.json").read_text(encoding="utf-8")
    lock = json.loads(text)
    assert lock["packages"][""]["dependencies"] == wanted
    for name, version in wanted.items():
        assert lock["packages"][f"node_modules/{name}"]["version"] == version
    for name, entry in lock["packages"].items():
        assert not name or entry["integrity"].startswith("sha512-"), name
    assert '"resolved"' not in text and "://registry" not in text
