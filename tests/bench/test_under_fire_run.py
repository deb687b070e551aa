"""Attackers and storms once, small, against the real server. What must hold at any speed is judged; figures of time are not."""

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest

from bench.hostile.corpus import distinct, filled, load, placeheld
from bench.hostile.mutate import WIRE, Mutator, frame, masked
from bench.hostile.record import Frames
from bench.logs import judged_log, wrong_line
from protocol.codec import decode_client
from protocol.errors import Refused
from protocol.frames import FRAME_BYTES_MAX, ClientFrame

ROOT = Path(__file__).parents[2]
LIVING = {
    "id": "6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c1", "job_id": "6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c2", "offer_id": "6f0dd2c8-1f86-4a3c-9f2e-3a36b6f3d0c3",
    "token": "t", "epoch": "e", "device": "d", "at": "2026-11-20T10:36:00.123Z",
}  # fmt: skip


def run(tmp_path: Path, scenario: str, *options: str) -> dict[str, Any]:
    """Its JSON; AssertionError when it found something wrong."""
    file = tmp_path / "figures.json"
    code = f"import sys; from bench.{scenario} import main; sys.exit(main(sys.argv[1:]))"
    done = subprocess.run(
        [sys.executable, "-c", code, *options, "--json", str(file)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6_000:] + done.stderr[-4_000:]
    found: dict[str, Any] = json.loads(file.read_bytes())
    assert {"machine", "versions", "commit", "options", "date"} <= found.keys()
    return found


def test_the_corpus_has_every_frame_and_each_of_them_is_right() -> None:
    corpus = load()
    assert {document["type"] for document in corpus} == {kind.__struct_config__.tag for kind in get_args(ClientFrame)}
    for document in corpus:
        decode_client(json.dumps(filled(document, LIVING)))
    assert len(distinct([json.dumps(document).encode() for document in corpus])) == len(corpus)
    assert placeheld({"id": 1, "points": [{"at": 2, "lat": 3}]}) == {"id": "{id}", "points": [{"at": "{at}", "lat": 3}]}


def test_mutants_are_the_same_for_the_same_seed_and_most_of_them_are_wrong() -> None:
    one, two = (Mutator(load(), random.Random(5)) for _ in range(2))
    wrong = 0
    for _ in range(3_000):
        mutant = one.text(LIVING)
        assert mutant == two.text(LIVING) and len(mutant.data) <= FRAME_BYTES_MAX
        try:
            decode_client(mutant.data)
        except Refused:
            wrong += 1
    assert 1_500 < wrong < 3_000, "some stay right: what they ask for is then judged"
    assert {one.wire(LIVING).name for _ in range(1_000)} == set(WIRE)


def test_a_tap_reads_what_a_client_sends() -> None:
    kept: list[bytes] = []
    tap = Frames(kept)
    long = b"x" * 70_000
    stream = b"GET /v1/socket HTTP/1.1\r\nUpgrade: websocket\r\n\r\n" + b"".join(
        frame(op, data, mask=b"abcd") for op, data in ((1, b"one"), (9, b"ping"), (1, b"y" * 300), (1, long))
    )
    for at in range(0, len(stream), 1_000):
        tap.feed(stream[at : at + 1_000])
    assert kept == [b"one", b"y" * 300, long]
    assert masked(masked(b"hello", b"abcd"), b"abcd") == b"hello"


@pytest.mark.parametrize(
    "line",
    [
        '{"level":"error","event":"request failed"}',
        '{"level":"warning","event":"x","exception":"Traceback"}',
        "Traceback (most recent call last):",
        '{"level":"critical","event":"frame for another user stopped"}',
        '{"level":"warning","logger":"py.warnings","event":"RuntimeWarning: coroutine was never awaited"}',
    ],
)
def test_a_bad_line_of_the_log_is_seen(line: str) -> None:
    assert judged_log('{"level":"warning","event":"fine"}\n' + line)["unhandled"] == 1


def test_a_bad_line_is_named_by_what_it_ended_in() -> None:
    exception = "Traceback\n  File x\nKeyError: 1\n\nDuring handling\n\nTraceback\na.b.Gone: it is\nDETAIL:  more"
    line = wrong_line(json.dumps({"level": "error", "event": "x", "exception": exception}))
    assert line is not None and (line.text, line.error, line.said) == ("error: x: Gone: it is", "Gone", "it is")


def test_twenty_thousand_broken_frames_harm_nobody(tmp_path: Path) -> None:
    found = run(tmp_path, "hostile", "--frames", "20000", "--sockets", "200", "--seed", "11")
    assert found["frames_reached"] >= 20_000
    assert (found["unhandled"], found["answers_not_of_the_contract"], found["bystander"]["failed"]) == (0, 0, 0)
    assert found["workers_alive"] and found["bystander"]["rides"] > 0
    assert len(found["mutants"]) > 40


def test_two_hundred_return_and_twenty_do_not_read(tmp_path: Path) -> None:
    options = (
        "--sockets",
        "200",
        "--pairs",
        "4",
        "--workers",
        "2",
        "--calm",
        "2",
        "--rounds",
        "1",
        "--only",
        "returning",
        "--only",
        "not_reading",
    )
    found = run(tmp_path, "storms", *options)
    storm, deaf = found["returning"], found["not_reading"]
    assert (storm["returned"], storm["resumed"]) == (200, 200)
    assert (deaf["gone"], deaf["not_reading"]) == (20, 20) and 0 < deaf["waiting_kib_max"] <= 256
    assert storm["accepts"] > 0 and storm["loop_lag_ms_max"] > 0


def test_replacing_the_workers_loses_no_accept_and_no_event(tmp_path: Path) -> None:
    found = run(tmp_path, "storms", "--pairs", "4", "--workers", "2", "--only", "restarting")["restarting"]
    assert (found["failed"], found["events_lost"], found["events_out_of_order"], found["replaced"]) == (0, 0, 0, 2)
    assert found["accepts"] > 5 and found["welcomes"] > 8, "sockets moved"
