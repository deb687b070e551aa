"""Accepts through sockets, by turns: 100 providers after 100 jobs, and 50 after one; all said yes at one instant.

Peers answer a loser once and for all: what nobody has then, nobody gets. Ours offers it again, and its rounds last until every job
has somebody; so time is compared by what a winner waits for his yes. Cost is CPU for each winner from the instant until as long after
the last answer on every side: ours settles losers' offers in transactions of their own a moment after a win, a peer does it before it
answers. What each side uses in such a time anyway is taken off: a race is short, and loops that run all the time would be most of what
is measured. That is looked at when what the connecting left to be done is done.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from bench.accepts import PATIENCE_S, WAVE, Contest, Race, Score, all_free, circle, figures_of, play
from bench.fleet import Phone, lost
from bench.pace import Drive
from bench.peers.sides import Ours, Side
from bench.peers.works import MARKET, Sample, Scale, connected, cpu, turns
from dispatch.markets import Markets
from protocol.frames import Event

PEER_SETTLED_WITHIN_S = 0.5
AFTERMATH_S = 0.6
"""From the last answer: five times what ours waits before it settles losers, and what that takes."""


def crowd(scale: Scale) -> Contest:
    """As many jobs as providers, each offered to five of them; everybody accepts all he is offered."""
    return Contest(scale.crowd, scale.crowd, WAVE, 1, WAVE)


def racers(scale: Scale) -> Contest:
    """One job, offered to everybody."""
    return Contest(scale.racers, 1, scale.racers, scale.races, 1)


async def races(sides: Sequence[Side], scale: Scale, kind: Contest, samples: list[Sample]) -> None:
    """Every run is `kind.rounds` rounds. Doubles are counted at the phones: two who were told yes for one job."""
    centre = Markets.load()[MARKET].centre()
    places = circle(kind.providers, kind.radius_m(), centre)
    dice = random.Random(1)
    current: dict[str, Race] = {}
    phones_of: dict[str, list[Phone]] = {}
    for run, side in turns(sides, scale.runs):
        if side.name not in phones_of:

            def heard(phone: Phone, event: Event, now_ns: int, name: str = side.name) -> None:
                if name in current:
                    current[name].event(phone, event, now_ns)

            phones_of[side.name] = side.phones(places, heard)
        phones = phones_of[side.name]
        current.pop(side.name, None)
        patience_s = kind.settled_within_s if isinstance(side, Ours) else PEER_SETTLED_WITHIN_S
        mine = replace(kind, settled_within_s=patience_s, aftermath_s=AFTERMATH_S)
        score, holders = Score(), Counter[str]()
        async with connected(side, phones):
            customers = side.customers(kind.jobs, kind.wave, PATIENCE_S)
            async with Drive(phones, len(phones) / 5):
                await asyncio.sleep(scale.settle_s)
                before = side.usage()
                await asyncio.sleep(scale.quiet_s)
                quiet = side.usage().since(before)
                used = quiet.since(quiet)
                for _ in range(kind.rounds):
                    if isinstance(side, Ours):
                        await all_free(side.running, len(phones))
                    race = current[side.name] = Race(kind.fingers, score)
                    one_place = centre if kind.jobs == 1 else None
                    used = used.and_(await play(race, customers, one_place, places, mine, dice, side.usage))
                    holders.update(
                        f"{provider} again" for provider, jobs in Counter(race.won.values()).items() if jobs > 1
                    )
        winners = len(score.assignments)
        found = figures_of(score)
        found.pop("curves")
        samples.append(
            {
                "work": "accepts",
                "kind": "crowd" if kind.jobs > 1 else "racers",
                "run": run,
                "side": side.name,
                **found,
                "jobs_nobody_got": found["jobs"] - found["jobs_accepted"],
                "providers_with_two_jobs": len(holders),
                "accepts_per_s": round(winners / max(1e-9, sum(score.rounds_s)), 1),
                "cpu_us": cpu(used.beyond(quiet), winners),
                "cpu_us_with_idle": cpu(used, winners),
                "measured_s": round(used.at, 3),
                "others_cores": used.others_share(),
                "lines_lost": lost(phones),
            }
        )
        print(
            f"accepts of {kind.providers} on {kind.jobs}, run {run + 1}, {side.name}: yes p99 {found['accept_ms_p99']} ms,"
            f" {samples[-1]['cpu_us']['all']:,.0f} µs a winner, {samples[-1]['jobs_nobody_got']} jobs without anybody",
            flush=True,
        )
