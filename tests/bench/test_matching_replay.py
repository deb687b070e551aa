"""What a live server decided replays to the same decisions: one brain, two bodies."""

import asyncio
import gzip
from pathlib import Path
from uuid import UUID

import pytest
import structlog

from bench.matching.command import main
from bench.matching.evidence import market_with
from dispatch.matching import Question, Search, decide, terms_of
from dispatch.matching.record import Recorder, lines, replay
from dispatch.presence import Candidate
from tests.support.server import BANGKOK, serving

EAST = 0.01 / 1.08


@pytest.mark.parametrize("policy", ["nearest", "waves", "broadcast", "batch"])
async def test_a_live_log_replays(
    policy: str, tmp_path: Path, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A window is decided together however slow the machine is: what it does when it runs out of time has tests of its own.
    monkeypatch.setattr("dispatch.matching.batching.BUDGET_S", 10.0)
    log = tmp_path / "live.gz"
    markets = {"bkk": {"policy": policy, "batch_window_s": 0.3, "offer_ttl_s": 60, "research_s": 0.2}}
    with Recorder(log) as recorder:
        async with serving(database_url, redis_url, markets=markets) as server:
            server.app.matching.on_decision.append(recorder)
            async with (
                server.working() as (one, first),
                server.working(at=(BANGKOK[0], BANGKOK[1] + EAST)) as (two, second),
            ):
                job = await server.request(await server.person(), at=(BANGKOK[0], BANGKOK[1] + EAST / 4))
                # Who is asked first is the judge's affair: whose gate is held at that moment is passed over.
                told = {
                    asyncio.ensure_future(person.inbox.named("offer.created")): client
                    for person, client in ((one, first), (two, second))
                }
                done, _ = await asyncio.wait(told, return_when=asyncio.FIRST_COMPLETED)
                made = done.pop()
                await told[made].decline(made.result().data["offer_id"], None)
                offered = [event.data for event in await asyncio.gather(*told)]
                assert {offer["job"]["id"] for offer in offered} == {job["id"]}
    count, others = replay(log)
    assert (count, others) == (recorder.kept, [])
    assert count >= (1 if policy in ("waves", "broadcast") else 2)
    assert {line["terms"]["policy"] for line in lines(log)} == {policy}


async def test_a_server_writes_the_log_where_its_setting_says(
    tmp_path: Path, database_url: str, redis_url: str
) -> None:
    async with (
        serving(database_url, redis_url, decision_log=tmp_path / "decisions") as server,
        server.working() as (one, _),
    ):
        await server.request(await server.person())
        await one.inbox.named("offer.created")
    (log,) = tmp_path.iterdir()
    assert log.name.startswith("decisions.0.") and log.suffix == ".gz"
    assert replay(log) == (1, [])


def decided(path: Path, times: int) -> Recorder:
    """A log of so many decisions."""
    job, who = UUID(int=1), Candidate(UUID(int=2), 300)
    search = Search(job, "bkk", "ride", 0, 13.7, 100.5, False, False, False, ())
    question = Question(1_000, terms_of(market_with("nearest")), [search], {job: [who]})
    with Recorder(path) as recorder:
        for _ in range(times):
            recorder(question, decide(question))
    return recorder


def test_of_the_same_decisions_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one.gz", "another.gz"):
        assert decided(tmp_path / name, 3).kept == 3
    assert (tmp_path / "one.gz").read_bytes() == (tmp_path / "another.gz").read_bytes()
    assert (tmp_path / "one.gz").read_bytes()[4:8] == bytes(4), "the hour is not in it"


def test_of_a_killed_writer_s_log_what_came_before_its_end_replays(tmp_path: Path) -> None:
    log = tmp_path / "log.gz"
    decided(log, 2_000)
    log.write_bytes(log.read_bytes()[:-40])
    count, others = replay(log)
    assert 0 < count < 2_000 and others == []


def test_a_full_disk_ends_the_log_and_no_search(tmp_path: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with structlog.testing.capture_logs() as said:
        recorder = decided(Path("/dev/full"), 20_000)
    assert recorder.left_out > 0 and [line["event"] for line in said] == ["the log of decisions ends"]


@pytest.mark.parametrize(
    "text", [b"no log", gzip.compress(b"{}\n"), gzip.compress(b"[1]\n")], ids=["plain", "{}", "[1]"]
)
def test_what_is_no_log_is_told_as_such(text: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.gz"
    log.write_bytes(text)
    assert main(["--replay", str(log)]) == 2
    assert f"{log} is no log of decisions" in capsys.readouterr().err


def test_the_command_says_whether_a_log_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.gz"
    assert main(["--made-up", "1", "--trips", "30", "--policy", "waves", "--log", str(log)]) == 0
    assert main(["--replay", str(log)]) == 0
    assert "decisions, 0 otherwise" in capsys.readouterr().out
