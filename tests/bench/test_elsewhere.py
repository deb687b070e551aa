"""A server that somebody else has started is measured too; who cannot reach it, or has another key, is told what to do."""

import asyncio
import importlib
import json
import os
import re
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from bench.all import ORDER
from bench.elsewhere import checked, here
from bench.server import Running, Unreachable, server
from bench.storms.command import parser as storm_parser
from bench.storms.command import storm

ROOT = Path(__file__).parents[2]
KEY = '["a-key-that-only-this-test-has-0123456789"]'


@asynccontextmanager
async def somebody_elses() -> AsyncIterator[Running]:
    """As an operator may have it: with a key of its own, and offers to one at a time."""
    async with server(
        market="bkk", providers=0, customers=0, workers=1, market_overrides={"wave_size": 1}, say=lambda _: None,
        settings={"DISPATCH_JWT_SECRETS": KEY, "DISPATCH_TRACK_EVERY_S": "0.5"},
    ) as running:  # fmt: skip
        yield running


async def bench(*words: str, **settings: str) -> tuple[int | None, str, str]:
    """(exit code, stdout, stderr) of a run with these settings in the environment, and no others."""
    clean = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("DISPATCH_") and name not in ("DATABASE_URL", "REDIS_URL")
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench", *words), cwd=ROOT, env=clean | settings,
        stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    try:
        async with asyncio.timeout(120):
            out, err = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return process.returncode, out.decode(), err.decode()


RUNS: dict[str, tuple[str, ...]] = {
    "api": ("--providers", "3", "--customers", "3", "--rate", "20", "--for", "1", "--warm-up", "0.5"),
    "tracking": ("--pairs", "2", "--for", "1.5", "--warm-up", "0.5", "--fixes", "2"),
    "storm": ("--sockets", "5", "--pairs", "1", "--calm", "0.5"),
    "offers": ("--providers", "3", "--customers", "2", "--rate", "3", "--for", "1.5", "--warm-up", "0.5", "--hold", "0.3"),
}  # fmt: skip


async def test_people_come_by_the_open_doors_and_the_unknown_is_said(tmp_path: Path) -> None:
    """With the key alone: CPU of the server is read here, of the stores it is unknown."""
    found: dict[str, dict[str, Any]] = {}
    async with somebody_elses() as running:
        for name, words in RUNS.items():
            file = tmp_path / f"{name}.json"
            code, out, err = await bench(
                name, "--url", running.url, *words, "--json", str(file), DISPATCH_JWT_SECRETS=KEY
            )
            assert code == 0, out[-2_000:] + err[-2_000:]
            assert "unknown" in out
            found[name] = json.loads(file.read_bytes())
            assert running.url not in file.read_text(), "whose server it was is nobody else's business"
    for one in found.values():
        assert one["elsewhere"] is True and one["commit"] == "unknown" and one["lines_lost"] == 0
        assert " --url URL " in one["command"]
        (worker,) = one["processes"]["workers"]
        # It is looked at before the server's begin and after its end.
        assert one["processes"]["cpu_s"]["server"] <= worker["cpu_s"] + 0.01
        assert one["processes"]["cpu_s"]["redis"] is None and one["processes"]["cpu_s"]["postgres"] is None
        assert one["processes"]["rss_mib"]["postgres"] is None and one["processes"]["loop_lag_ms_max"] > 0
    assert sum(one["processes"]["cpu_s"]["server"] for one in found.values()) > 0
    assert found["storm"]["returning"]["resumed"] == 5 and found["storm"]["returning"]["accepts"] > 0
    assert found["api"]["reads"] > 0 and found["api"]["errors"] == 0
    assert found["tracking"]["frames"] > 0
    assert found["offers"]["jobs"] > 0 and found["offers"]["offers"] is None
    assert found["offers"]["request_to_first_frame_ms_p50"] > 0


async def test_with_a_database_people_are_seeded_and_the_stores_are_read(tmp_path: Path) -> None:
    file = tmp_path / "positions.json"
    words = ("--sockets", "20", "--for", "1", "--warm-up", "0.5", "--probes", "4", "--json", str(file))
    async with somebody_elses() as running:
        settings = {"DATABASE_URL": running.stage.database_url, "REDIS_URL": running.stage.redis_url}
        code, out, err = await bench("positions", "--url", running.url, *words, DISPATCH_JWT_SECRETS=KEY, **settings)
    assert code == 0, out[-2_000:] + err[-2_000:]
    found = json.loads(file.read_bytes())
    assert found["processes"]["cpu_s"].keys() - {"load_generator"} == {"server", "redis", "postgres"}
    assert None not in found["processes"]["cpu_s"].values(), "each of them is seen"
    assert found["processes"]["rss_mib"]["redis"] > 1 and found["processes"]["rss_mib"]["postgres"] > 1
    assert found["misplaced_in_redis"] == 0 and found["searchable_ms_p50"] > 0
    assert found["taken_by_server"] == found["sent_with_warm_up"]


async def test_whoever_cannot_is_told_why_and_what_to_do(tmp_path: Path) -> None:
    async with somebody_elses() as running:
        words = ("--sockets", "2", "--first", "1", "--settle", "0.1")
        wrong_key = await bench(
            "sockets", "--url", running.url, *words, DISPATCH_JWT_SECRETS=KEY.replace("only", "0nly")
        )
        no_key = await bench("sockets", "--url", running.url, *words)
        misspelt = await bench("sockets", "--url", running.url, *words, DISPATCH_JWT_SECRET="x")
    down = await bench("sockets", "--url", running.url, *words, DISPATCH_JWT_SECRETS=KEY)
    for code, out, err in (wrong_key, no_key):
        assert code == 2 and "does not take tokens signed with the key of the environment" in err, out + err
        assert "set DISPATCH_JWT_SECRETS" in err
    assert misspelt[0] == 2 and "DISPATCH_JWT_SECRETS" in misspelt[2]
    assert down[0] == 2 and "nobody answers at" in down[2] and "start the server" in down[2]
    assert all("Traceback" not in err for _, _, err in (wrong_key, no_key, misspelt, down))
    assert all("0nly" not in out + err for _, out, err in (wrong_key, no_key)), "a key is printed nowhere"


@pytest.mark.parametrize(
    "url", ["localhost:8080", "https://dispatch.example", "http://", "http://h:x", "http://h/v1", "ws://h"]
)
def test_what_is_no_address_of_a_server_is_refused(url: str) -> None:
    with pytest.raises(Unreachable, match="give it as http://host:port"):
        checked(url)


def test_addresses_lose_their_slash_and_gain_their_port() -> None:
    assert checked("http://127.0.0.1:8080/") == "http://127.0.0.1:8080"
    assert checked("http://dispatch.example") == "http://dispatch.example:80"
    assert (
        here("http://localhost:1")
        and here("postgres:///x?host=/run")
        and not here("redis://10.0.0.9")
        and not here(None)
    )


def test_the_readme_names_who_measures_somebody_elses_server() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    (line,) = (line for line in readme.splitlines() if "also measure a server that runs already" in line)
    named = set(re.findall(r"`(\w+)`", line.partition(" also measure ")[0]))
    parsers = {name: importlib.import_module(f"bench.{name}") for name in ORDER if name not in ("storm", "peers")}
    able = {name for name, module in parsers.items() if "--url" in module.parser().format_help()}
    assert named == able | {"storm"} and "--url" in storm_parser("storm").format_help()


def test_other_storms_are_not_sent_to_somebody_elses_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert storm(["--url", "http://127.0.0.1:1", "--only", "restarting"]) == 2
    assert "only phones that return" in capsys.readouterr().err
