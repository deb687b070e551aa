"""A measuring scenario as people start it: `python -m bench …` in a process of its own."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run(tmp_path: Path, scenario: str, *options: str) -> dict[str, Any]:
    """Its JSON; AssertionError when it found something wrong."""
    return told(tmp_path, scenario, *options)[0]


def told(tmp_path: Path, scenario: str, *options: str) -> tuple[dict[str, Any], str]:
    """Its JSON, and what it printed; AssertionError when it found something wrong. Figures of time are not looked at: no test depends on how fast a machine is."""
    file = tmp_path / f"{scenario}.json"
    done = subprocess.run(
        [sys.executable, "-m", "bench", scenario, *options, "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-4_000:]
    found: dict[str, Any] = json.loads(file.read_bytes())
    assert {"machine", "versions", "commit", "options", "date"} <= found.keys()
    assert found.get("lines_lost", 0) == 0
    return found, done.stdout
