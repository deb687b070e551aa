"""Faults of links: cut, silent, slow. Each says what it calls met, as all `blows` do."""

import asyncio
import random
import time

from bench.chaos.cluster import Node
from bench.chaos.nemesis import AIM_WITHIN_S, Nemesis, name_of
from bench.chaos.plan import Planned
from bench.faults.proxy import Proxy


def _link(nemesis: Nemesis, dice: random.Random) -> tuple[Node, Proxy, str]:
    node = nemesis.node(dice)
    name = dice.choice(("clients", "redis", "postgres"))
    return node, getattr(node, name), name


def _calls_on(nemesis: Nemesis, node: Node, link: Proxy) -> int:
    return nemesis.city.in_flight(node.worker.number) if link is node.clients else link.in_flight


async def link_reset(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """In the middle of a call: on a store's link between a statement and its execution, or between that and its reply. Met are the calls
    that were cut.
    """
    node, link, name = _link(nemesis, dice)
    if link is node.clients:
        met = await nemesis.aim(lambda: _calls_on(nemesis, node, link))
        link.cut()
        return f"{name_of(node)}, {name}", met
    executed = dice.random() < 0.5
    trap = link.drop_next_reply() if executed else link.hold_next()
    try:
        async with asyncio.timeout(AIM_WITHIN_S):
            await trap.reached.wait()
    except TimeoutError:
        return f"{name_of(node)}, {name}", 0
    finally:
        link.forget(trap)
        met = max(int(executed), link.in_flight)
        link.cut()
        trap.release()
    return f"{name_of(node)}, {name}, {'executed' if executed else 'not executed'}", met


async def link_half_open(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the calls whose bytes were lost: `_until_healed`."""
    node, link, name = _link(nemesis, dice)
    silent = dice.choice(("requests", "replies"))
    async with nemesis.lock(f"{name_of(node)}, {name}"):
        link.half_open("requests" if silent == "requests" else "replies")
        return f"{name_of(node)}, {name}, no {silent}", await _until_healed(nemesis, planned, node, link)


async def link_blackhole(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the calls whose bytes were lost."""
    node, link, name = _link(nemesis, dice)
    async with nemesis.lock(f"{name_of(node)}, {name}"):
        link.blackhole()
        return f"{name_of(node)}, {name}", await _until_healed(nemesis, planned, node, link)


async def link_delay(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the calls that were answered late."""
    node, link, name = _link(nemesis, dice)
    delay_s = dice.uniform(0.05, 2.0)
    async with nemesis.lock(f"{name_of(node)}, {name}"):
        link.delay_s, link.jitter_s = delay_s, delay_s / 2
        return f"{name_of(node)}, {name}, {delay_s:.2f} s", await _until_healed(nemesis, planned, node, link)


async def link_throttle(nemesis: Nemesis, planned: Planned, dice: random.Random) -> tuple[str, int]:
    """Met are the calls whose bytes were held back."""
    node, link, name = _link(nemesis, dice)
    async with nemesis.lock(f"{name_of(node)}, {name}"):
        link.bytes_per_s = dice.choice((2_000.0, 20_000.0))
        return f"{name_of(node)}, {name}", await _until_healed(nemesis, planned, node, link)


async def _until_healed(nemesis: Nemesis, planned: Planned, node: Node, link: Proxy) -> int:
    """Calls that were held back or lost bytes; of clients, who share their lines, as many as waited at any look since the first such
    bytes. A little longer, until there are any.
    """
    met, before = 0, link.slowed
    try:
        until = time.monotonic() + planned.length_s
        while (now := time.monotonic()) < until or (not met and now < until + AIM_WITHIN_S):
            await asyncio.sleep(0.02)
            slowed = link.slowed - before
            met = max(met, min(slowed, _calls_on(nemesis, node, link)) if link is node.clients else slowed)
        return met
    finally:
        link.heal()
