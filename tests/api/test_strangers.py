"""Ten seconds for the headers of a first request, by the clock and to the sweep."""

from typing import Any

from dispatch.api.strangers import SWEEP_EVERY_S, Strangers


class _Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic(self) -> float:
        return self.now_s


class _Line:
    """A connection of aiohttp's, as far as it is looked at."""

    def __init__(self) -> None:
        self.cut = False

    def force_close(self) -> None:
        self.cut = True


class _Request:
    def __init__(self, protocol: Any) -> None:
        self.protocol = protocol


def test_a_stranger_is_cut_between_eight_and_ten_seconds_and_a_guest_never() -> None:
    clock: Any = _Clock()
    strangers = Strangers(clock)
    silent: Any = _Line()
    guest: Any = _Line()
    request: Any = _Request(guest)
    strangers.asks(request)
    came_at = clock.now_s
    clock.now_s += SWEEP_EVERY_S * 0.99  # he came just after a sweep
    while not silent.cut:
        strangers.sweep([silent, guest])
        assert not silent.cut or clock.now_s - came_at >= 8.0
        clock.now_s += SWEEP_EVERY_S
        assert clock.now_s - came_at < 12.0
    assert clock.now_s - SWEEP_EVERY_S - came_at <= 10.0
    for _ in range(100):
        strangers.sweep([guest])
        clock.now_s += SWEEP_EVERY_S
    assert not guest.cut


def test_those_who_left_are_forgotten() -> None:
    clock: Any = _Clock()
    strangers = Strangers(clock)
    gone: Any = _Line()
    request: Any = _Request(gone)
    strangers.asks(request)
    strangers.sweep([gone, *(_Line() for _ in range(10))])  # type: ignore[misc]
    strangers.sweep([])
    assert not strangers._asked and not strangers._since
