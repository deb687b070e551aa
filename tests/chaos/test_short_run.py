"""The short form of `python -m bench chaos`: every fault once on real processes, and nothing that was promised is broken."""

import asyncio
import json
import signal
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHIN_S = 235.0
SEED = 1

ALWAYS = {
    *(
        "worker-kill",
        "worker-stop",
        "worker-block",
        "redis-kill",
        "redis-stop",
        "redis-stale",
        "redis-empty",
        "redis-lies",
    ),
    *("flushall", "function-flush", "postgres-kill", "postgres-immediate", "postgres-stop", "backends", "row-lock"),
    *("link-reset", "link-half-open", "link-blackhole", "link-delay", "link-throttle", "client-abort", "cpu-hog"),
    *("dropped-commit", "dropped-claim"),
}
"""They need nothing that a machine may lack: each is in the plan, and waits for somebody to meet or lasts until it has."""
MAY_LACK = {"disk-full", "clock-worker", "clock-redis", "clock-postgres"}


async def test_every_fault_once_and_nothing_promised_is_broken(tmp_path: Path) -> None:
    result = tmp_path / "chaos.json"
    words = (
        "-m",
        "bench",
        "chaos",
        "--short",
        "--seed",
        str(SEED),
        "--json",
        str(result),
        "--keep",
        str(tmp_path / "kept"),
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, *words, cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    assert process.stdout is not None
    said = asyncio.create_task(process.stdout.read())
    try:
        async with asyncio.timeout(WITHIN_S):
            code = await process.wait()
    except TimeoutError:
        process.send_signal(signal.SIGINT)
        raise AssertionError(f"not done within {WITHIN_S:.0f} s:\n{(await said).decode()[-6000:]}") from None
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    text = (await said).decode()
    assert code == 0, text[-6000:]
    found = json.loads(result.read_bytes())
    assert found["violations"] == 0 and not any(found["by_invariant"].values())
    assert found["acked_accepts_lost"] == 0 and found["never_resumed"] == 0 and found["unknown_commits_unsettled"] == 0
    assert found["accepts"] >= 500 and found["accepts_won"] >= 100 and found["jobs"] >= 100, text[-6000:]
    met = set(found["faults_by_kind"])
    assert met >= ALWAYS, f"{sorted(ALWAYS - met)} met nobody:\n{text[-6000:]}"
    assert set(found["skipped"]) <= MAY_LACK
    assert found["faults"] >= len(ALWAYS) + 10, "and replies were lost"
    assert found["resumes"] > 0 and found["resume_ms"]["resume_p99"] is not None
    assert {"seed", "seconds", "redis", "versions", "machine", "date", "commit"} <= set(found)
    history = tmp_path / "kept" / f"seed-{SEED}" / "history"
    assert (history / "final.json").exists() and (history / "faults.jsonl").exists()
