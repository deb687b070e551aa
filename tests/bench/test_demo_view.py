"""The live picture: dots where the cabs are, the numbers beside them, and one line for logs."""

import io
from typing import Any

import pytest
from rich.console import Console

from bench.demo.view import Canvas, canvas_of, frames, lines, picture

NOW: dict[str, Any] = {
    "box": [37.7, -122.52, 37.81, -122.38],
    "map": {"free": [[37.75, -122.45]], "riding": [[37.76, -122.42]], "waiting": [[37.8, -122.41]]},
    "title": "San Francisco 2008-05-23",
    "city_time": "22:51:00",
    "speed": 20.0,
    "phase": "running",
    "cabs": 300,
    "online": 290,
    "busy": 150,
    "jobs": {"pending": 3, "offered": 15, "accepted": 30, "in_progress": 100, "completed": 120, "cancelled": 2},
    "offer_p50_ms": 2.14,
    "offer_p99_ms": None,
    "accepts": 333,
    "double_assignments": 0,
    "events_per_s": 210.4,
    "positions_per_s": 300.0,
    "lines_lost": 3,
    "seconds": 22.0,
    "of_s": 60.0,
}


def drawn(now: dict[str, Any], width: int = 100, height: int = 36) -> str:
    console = Console(width=width, height=height, file=io.StringIO(), force_terminal=False)
    console.print(picture(now, canvas_of(now["box"], width, height)), height=height)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_the_picture_shows_the_city_and_its_numbers() -> None:
    shown = drawn(NOW)
    for words in ("San Francisco 2008-05-23", "22:51:00", "290 of 300", "120", "2.1 ms", "double assignments", "333"):
        assert words in shown
    assert sum(0x2800 < ord(character) <= 0x28FF for character in shown) == 3


def test_a_tiny_terminal_does_not_end_the_run() -> None:
    assert drawn(NOW, width=20, height=6)


@pytest.mark.parametrize(
    ("place", "cell"),
    [((0.99, 0.01), (0, 0)), ((0.99, 0.99), (0, 7)), ((0.01, 0.01), (3, 0)), ((0.01, 0.99), (3, 7))],
)
def test_north_is_up_and_east_is_right(place: tuple[float, float], cell: tuple[int, int]) -> None:
    canvas = Canvas((0, 0, 1, 1), 8, 4)
    assert canvas.dot(*place, "green")
    rows = canvas.text().plain.split("\n")
    assert [len(row) for row in rows] == [8] * 4
    assert [(r, c) for r, row in enumerate(rows) for c, dot in enumerate(row) if dot != "\u2800"] == [cell]


def test_two_dots_share_a_character_and_the_later_colour_wins() -> None:
    canvas = Canvas((0, 0, 1, 1), 8, 4)
    canvas.dot(0.99, 0.01, "green")
    canvas.dot(0.90, 0.01, "red")
    text = canvas.text()
    assert text.plain[0] == chr(0x2800 + 0x01 + 0x02)
    assert "red" in [str(span.style) for span in text.spans]
    assert "green" not in [str(span.style) for span in text.spans]


def test_streets_lie_under_the_cabs_and_stay_when_the_cabs_move_on() -> None:
    canvas = Canvas((0, 0, 1, 1), 8, 4)
    canvas.draw_ground([(0.99, 0.01), (0.99, 0.99), (5.0, 5.0)])
    canvas.dot(0.90, 0.01, "red")
    assert canvas.text().plain[0] == chr(0x2800 + 0x02)
    assert canvas.text().plain[7] != "\u2800"
    canvas.clear()
    assert canvas.text().plain[0] == chr(0x2800 + 0x01)


def test_a_cab_off_the_map_is_left_out() -> None:
    assert not Canvas((0, 0, 1, 1), 8, 4).dot(2, 2, "green")


def test_a_log_gets_one_line() -> None:
    line = lines(NOW)
    assert "\n" not in line
    assert "cabs 290/300" in line
    assert "waiting 18 driving 130 completed 120 cancelled 2" in line
    assert "p50 2.1 ms p99 -" in line


def test_a_torn_last_object_ends_the_stream() -> None:
    assert list(frames(io.BytesIO(b'{"a":1}\n{"a":2}\n{"a"'))) == [{"a": 1}, {"a": 2}]
