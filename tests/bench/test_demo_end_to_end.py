"""The demo as people run it, but short: the real server, real stores, real sockets, recorded cabs."""

from pathlib import Path
from typing import Any

import orjson
import pytest

from bench.demo import replay
from bench.demo.command import main
from bench.demo.tally import Applied


def run(tmp_path: Path, *arguments: str) -> tuple[int, dict[str, Any]]:
    """A short run with few cabs, and fast, so that trips end in it: its exit code and its summary."""
    file = tmp_path / "demo.json"
    small = ["--cabs", "40", "--demand", "0.1", "--workers", "2", "--speed", "60", "--json", str(file)]
    code = main([*small, *arguments])
    return code, orjson.loads(file.read_bytes())


def test_a_short_run_completes_trips_and_breaks_no_promise(tmp_path: Path) -> None:
    code, figures = run(tmp_path, "--for", "5s")
    assert code == 0
    assert figures["drivers"].pop("seconds") > 0
    assert figures["drivers"] == {"registered": 40, "approved": 40}
    assert figures["jobs"]["completed"] > 0
    assert figures["jobs"]["under_way_at_start"] > 0
    assert figures["jobs"]["failed"] == 0
    assert figures["double_assignments"] == 0
    assert figures["lost_events"] == 0
    assert figures["offers"] > 0
    assert figures["offers_never_seen"] == 0
    assert figures["offer_latency_ms"]["p99"] > 0
    assert figures["positions"] > 100
    assert figures["answers"]["ok"] > 0
    books = figures["books"]
    assert (books["differences"], books["wallets_told_wrong"]) == (0, 0)
    assert books["earned"]["USD"]["jobs"] > 0 and books["earned"]["USD"]["net"] > 0
    assert books["entries"] >= 4 * books["earned"]["USD"]["jobs"]


def test_one_event_that_a_client_drops_is_one_lost_event_and_fails_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The thirtieth event that any client hears is forgotten there; nothing else is."""
    monkeypatch.setattr(replay, "SETTLE_S", 3.0)
    heard = 0
    apply = Applied.event

    def forgetful(self: Applied, seq: int) -> bool:
        nonlocal heard
        heard += 1
        return False if heard == 30 else apply(self, seq)

    monkeypatch.setattr(Applied, "event", forgetful)
    code, figures = run(tmp_path, "--for", "2s")
    assert heard > 30
    assert figures["lost_events"] == 1
    assert code == 1
