"""The three storms. Each gives its figures; targets are looked at by the command."""

import asyncio
import math
import os
import signal
import socket
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

from bench.figures import curve, spread
from bench.fleet import HANDSHAKES_AT_ONCE, FleetError, Phone, framed
from bench.meter import LAG_LOOK_S, Barometer
from bench.progress import bar, wait
from bench.server import Running, Target, listeners, until
from bench.storms.trade import Trade

CALM_S: Final = 12.0
"""The gauge of loop lag shows the worst of the last ten seconds and more: after this long it has forgotten what was before."""
RETURN_WITHIN_S: Final = 120.0
PINGS: Final = 1_400
"""Of 125 bytes: their answers are more than the kernel's two buffers take, and less than what may wait above them."""
GONE_WITHIN_S: Final = 60.0
PROBE_EVERY_S: Final = 0.25
PROBE_AFTER_S: Final = 6.0
"""Nobody is cut before; probes of hundreds are a load of their own."""
REPLACED_WITHIN_S: Final = 60.0
REST_S: Final = 3.0
DEAFENED_PER_S: Final = 100
ASKED_WITHIN_S: Final = 30.0
SMALL_TRIES: Final = 6


async def returning(running: Target, phones: Sequence[Phone], trade: Trade, calm_s: float) -> dict[str, Any]:
    """F14: all lines break in one moment, and all phones come back in the next."""
    loop = asyncio.get_running_loop()
    gate = asyncio.Semaphore(HANDSHAKES_AT_ONCE)

    async def come(phone: Phone) -> None:
        async with gate:
            await phone.come_back()
            advance(1)

    with bar("phones connecting", len(phones)) as advance:
        await asyncio.gather(*map(come, phones))
    calm_at = time.monotonic()
    async with Barometer(running) as calm:
        await wait("calm", calm_s)
        calm.worst.clear()
        await asyncio.sleep(2 * LAG_LOOK_S)
    async with Barometer(running) as storm:
        began = time.monotonic()
        for phone in phones:
            phone.close()
        took: list[float] = []

        async def back(phone: Phone) -> None:
            await phone.come_back()
            took.append(time.monotonic() - began)
            advance(1)

        with bar("phones back", len(phones)) as advance:
            tasks = [loop.create_task(back(phone)) for phone in phones]
            _, missing = await asyncio.wait(tasks, timeout=RETURN_WITHIN_S)
            for task in missing:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        ended = time.monotonic()
        back_s = took + [math.inf] * (len(phones) - len(took))
        # The last look shows the worst until now.
        await asyncio.sleep(2.5)
    # Few phones are back before anybody has asked: the first who asks afterwards stands for the others then.
    if not trade.accept_ms(began, ended):
        await until(lambda: bool(trade.accept_ms(began, time.monotonic())), within_s=ASKED_WITHIN_S)
        ended = time.monotonic()
    return {
        "sockets": len(phones),
        "returned": len(took),
        "resumed": sum(phone.resumed for phone in phones),
        **spread(back_s, "return_s"),
        "curves": {
            "back after all lines broke": curve([1000 * value for value in back_s]),
            "accepts meanwhile": curve(trade.accept_ms(began, ended)),
            "rides meanwhile, from due to yes": curve(trade.ride_ms(began, ended)),
        },
        "loop_lag_ms_max": storm.lag_ms,
        "loop_lag_ms_before": calm.lag_ms,
        **spread(trade.accept_ms(calm_at, began), "accept_ms_before"),
        **spread(trade.accept_ms(began, ended), "accept_ms"),
        "accepts": len(trade.accept_ms(began, ended)),
        **spread(trade.ride_ms(calm_at, began), "ride_ms_before"),
        **rides(trade.ride_ms(began, ended)),
    }


def rides(took_ms: Sequence[float]) -> dict[str, Any]:
    """Those that were due: from then to their yes, and how many had none. Pure."""
    return {**spread(took_ms, "ride_ms"), "rides_due": len(took_ms), "rides_without_yes": sum(map(math.isinf, took_ms))}


async def not_reading(
    running: Target, phones: Sequence[Phone], trade: Trade, calm_s: float, rounds: int
) -> dict[str, Any]:
    """F13: some stop reading while much is to be told them: answers to their own pings, more than the kernel holds.

    Again in each of the `rounds`, each with its own calm before it: what the others notice is compared over all of them.
    """
    before: list[float] = []
    during: list[float] = []
    rides_before: list[float] = []
    rides_during: list[float] = []
    gone: list[float] = []
    waiting_bytes, lag_ms = 0, 0.0
    for number in range(1, rounds + 1):
        calm_at = time.monotonic()
        await wait("calm", calm_s)
        calm_ended = time.monotonic()
        before += trade.accept_ms(calm_at, calm_ended)
        for phone in phones:
            await _with_small_buffers(phone)
        async with Barometer(running) as storm:
            began = time.monotonic()
            with bar(f"phones that do not read, cut, round {number} of {rounds}", len(phones)) as advance:
                await asyncio.gather(
                    *(_deafen(phone, at / DEAFENED_PER_S, gone, advance) for at, phone in enumerate(phones))
                )
            ended = time.monotonic()
            await asyncio.sleep(2.5)
        # Their asking is a load of its own; what others notice of readers that do not read is looked at once all have asked.
        asked = began + len(phones) / DEAFENED_PER_S + 1.0
        during += trade.accept_ms(asked, ended)
        rides_before += trade.ride_ms(calm_at, calm_ended)
        rides_during += trade.ride_ms(asked, ended)
        waiting_bytes, lag_ms = max(waiting_bytes, storm.waiting_bytes), max(lag_ms, storm.lag_ms)
    return {
        "rounds": rounds,
        "not_reading": rounds * len(phones),
        "gone": len(gone),
        **spread(gone + [math.inf] * (rounds * len(phones) - len(gone)), "gone_s"),
        "waiting_kib_max": round(waiting_bytes / 1024, 1),
        "loop_lag_ms_max": lag_ms,
        **spread(before, "accept_ms_before"),
        **spread(during, "accept_ms"),
        "accepts_before": len(before),
        "accepts": len(during),
        **spread(rides_before, "ride_ms_before"),
        **rides(rides_during),
    }


async def _with_small_buffers(phone: Phone) -> None:
    """Take this phone's line by a socket that holds little: what it does not read stays with the server."""
    phone.close()
    loop = asyncio.get_running_loop()
    address = urlsplit(phone.url)
    for _ in range(SMALL_TRIES):
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
        sock.setblocking(False)
        await loop.sock_connect(sock, (address.hostname, address.port))
        try:
            await phone.come_back_by(sock)
            return
        except (TimeoutError, ConnectionError):
            phone.close()
            await asyncio.sleep(max(1.0, phone.retry_after_s))
    raise FleetError("a phone with small buffers was not welcomed")


async def _deafen(phone: Phone, after_s: float, gone: list[float], advance: Callable[[float], None]) -> None:
    """Stop reading, ask for much, and write down when the line was cut. A probe now and then tells a cut line from a silent one."""
    await asyncio.sleep(after_s)
    transport = phone.transport
    assert transport is not None
    transport.pause_reading()
    began = time.monotonic()
    transport.write(framed(b"p" * 125, 0x9) * PINGS)

    def cut() -> bool:
        if not transport.is_closing() and time.monotonic() - began >= PROBE_AFTER_S:
            transport.write(framed(b"", 0xA))
        return transport.is_closing() or phone.lost

    if await until(cut, within_s=GONE_WITHIN_S, every_s=PROBE_EVERY_S):
        gone.append(time.monotonic() - began)
    phone.close()
    advance(1)


async def restarting(running: Running, trade: Trade) -> dict[str, Any]:
    """F15: every worker in turn is told to end, and replaced, while rides go on."""
    began = time.monotonic()
    took: list[float] = []
    old = running.worker_pids()
    with bar("workers replaced", len(old)) as advance:
        for pid in old:
            at = time.monotonic()
            os.kill(pid, signal.SIGTERM)
            await until(lambda pid=pid: pid not in running.worker_pids(), within_s=REPLACED_WITHIN_S)  # type: ignore[misc]
            took.append(time.monotonic() - at)
            port = urlsplit(running.stage.url).port or 0
            now = await until(partial(_all_listen, running, port, len(old)), within_s=REPLACED_WITHIN_S, every_s=0.1)
            if not now:
                break
            advance(1)
            # A while with everybody there, as an operator's script would leave: else there is no load to be lost between two.
            await asyncio.sleep(REST_S)
    ended = time.monotonic()
    await asyncio.sleep(3.0)
    await trade.finish()
    failed = trade.failed()
    return {
        "workers": len(old),
        "replaced": len(set(running.worker_pids()) - set(old)),
        **spread(took, "worker_end_s"),
        "seconds": round(ended - began, 1),
        "accepts": len(trade.accept_ms(began, ended)),
        **spread(trade.accept_ms(began, ended), "accept_ms"),
        **rides(trade.ride_ms(began, ended)),
        "failed": len(failed),
        "failures": failed[:5],
        "rides": sum(pair.rides for pair in trade.pairs),
        "rides_not_offered": sum(pair.not_offered for pair in trade.pairs),
        "welcomes": sum(client.welcomes for pair in trade.pairs for client in pair.clients),
        **await trade.lost_events(running.stage.database_url),
    }


def _all_listen(running: Running, port: int, workers: int) -> bool:
    """Whether so many workers listen on the port. A new one is there long before it serves."""
    return len(set(running.worker_pids()) & set(listeners(port))) >= workers
