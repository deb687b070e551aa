"""What a live server decided replays to the same decisions: one brain, two bodies."""

import asyncio
from pathlib import Path

import pytest

from bench.matching.command import main
from bench.matching.record import Recorder, lines, replay
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


def test_the_command_says_whether_a_log_replays(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log = tmp_path / "log.gz"
    assert main(["--made-up", "1", "--trips", "30", "--policy", "waves", "--log", str(log)]) == 0
    assert main(["--replay", str(log)]) == 0
    assert "decisions, 0 otherwise" in capsys.readouterr().out
