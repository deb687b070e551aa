"""What may be asked of the judges, as acts with small numbers: who, which job, and a variation."""

import random
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import orjson

from bench.simulation.judge.views import ACTIVE, OPEN
from dispatch.kit.postgres import Actor
from tests.simulation.twins import Judges

MARKET = "bkk"
ADMIN = UUID(int=7)


class Play:
    """One history: three providers, two customers, up to four jobs. Ids come from `chance`, times are the clocks' own."""

    def __init__(self, judges: Judges, chance: random.Random) -> None:
        self.judges = judges
        self.chance = chance
        self.users = [self.id() for _ in range(5)]
        self.working = [(self.id(), self.users[number]) for number in range(3)]
        self.jobs: list[UUID] = []
        self.keys: dict[tuple[int, int], str] = {}
        self.admin = Actor(self.users[4], frozenset({"admin"}), "en")

    def id(self) -> UUID:
        return UUID(int=self.chance.getrandbits(128))

    async def begin(self) -> None:
        await self.judges.begin(self.users, self.working)
        for worker in ("w1", "w2"):
            await self.judges.ask("inbox", "worker_beat", worker)
        for who in range(3):
            await self.socket(who, 0, who % 2)
            await self.on(who, 0, 0)

    def actor(self, who: int) -> Actor:
        return Actor(self.users[who % len(self.users)], frozenset({"customer"}), "en")

    def provider(self, who: int) -> UUID:
        return self.working[who % 3][0]

    def job(self, which: int) -> Any:
        """A job's row in the model, or None."""
        return self.judges.tables.rows["jobs"][self.jobs[which % len(self.jobs)]] if self.jobs else None

    # --- jobs

    async def create(self, who: int, which: int, how: int) -> None:
        if len(self.jobs) >= 4:
            return
        customer, job = self.users[3], self.id()
        key = self.keys.setdefault((3, how % 3), str(self.id())) if how % 4 else None
        drop = (13.8, 100.6, "There") if how % 2 else (None, None, None)
        coarse = orjson.dumps({"pickup": {"lat": 13.75, "lng": 100.5, "address": "Siam"}})
        await self.judges.ask(
            "jobs", "job_create", customer, key, f"create{how % 5}", job, MARKET, "ride", 13.75, 100.5, "Here", *drop, coarse, "?", None, "cashless",
            "THB", 100, 1200 if how % 2 else None, 300 if how % 2 else None, 3500, 600, 500, 0, 3680, 600.0, role="app",
        )  # fmt: skip
        if job in self.judges.tables.rows["jobs"]:
            self.jobs.append(job)

    async def look(self, who: int, which: int, how: int) -> None:
        if (job := self.job(which)) is not None:
            await self.judges.ask("jobs", "job_lock", job["id"], actor=self.actor(who))
            await self.judges.ask(
                "jobs", "job_offer_view", self.users[who % 3], job["id"], [MARKET], actor=self.actor(who % 3)
            )
            await self.judges.ask("claims", "job_facts", job["id"])
            await self.judges.ask("claims", "accept_known", job["id"])
        await self.judges.ask("matching", "live_state", self.users[who % 5])
        await self.judges.ask("claims", "job_facts", self.id())

    async def advance(self, who: int, which: int, how: int) -> None:
        job = self.job(which)
        if job is None or job["status"] not in ACTIVE:
            return
        actor = Actor(job["provider_user_id"], frozenset(), "en")
        trail = (120.5, 3, 13.751, 100.501, datetime.now(UTC)) if how % 2 else (0.0, 0, None, None, None)
        if job["status"] == "in_progress":
            await self.judges.ask(
                "jobs",
                "job_complete",
                job["id"],
                1300,
                320,
                1250,
                False,
                3500,
                650,
                530,
                0,
                3744,
                *trail,
                "in_progress",
                actor=actor,
            )
        else:
            status = "arrived" if job["status"] == "accepted" else "in_progress"
            await self.judges.ask("jobs", "job_advance", job["id"], status, *trail, job["status"], actor=actor)

    async def cancel(self, who: int, which: int, how: int) -> None:
        job = self.job(which)
        if job is not None and job["status"] not in ("completed", "cancelled"):
            actor = Actor(job["customer_id"], frozenset(), "en")
            await self.judges.ask(
                "jobs",
                "job_cancel_told" if how % 2 else "job_cancel",
                job["id"],
                "customer",
                actor.user_id,
                "customer",
                None,
                actor=actor,
            )

    async def strangers_cancel(self, who: int, which: int, how: int) -> None:
        job = self.job(which)
        if job is not None and job["status"] in OPEN:
            await self.judges.ask(
                "jobs", "job_cancel", job["id"], "customer", None, "customer", None, actor=self.actor(4)
            )

    async def release(self, who: int, which: int, how: int) -> None:
        job = self.job(which)
        if job is not None and job["status"] in ("accepted", "arrived"):
            name = "job_release_told" if how % 2 else "job_release"
            await self.judges.ask("jobs", name, job["id"], "system", None, "system", "because")

    # --- rounds

    async def offer(self, who: int, which: int, how: int) -> None:
        job = self.job(which)
        if job is None:
            return
        chosen = [self.provider(number) for number in range(3) if (who >> number) & 1] or [self.provider(0)][: how % 2]
        round = job["round"] if how % 5 else job["round"] + 1
        ttl_s, at_once = (60.0, -1.0)[how % 7 == 6], how % 3
        ids = [self.id() for _ in chosen]
        away = [100, 99_000, 300][: len(chosen)] if how % 4 == 3 else [100] * len(chosen)
        args = (job["id"], round, ids, chosen, away, ttl_s, at_once, 5.0, 0.0 if how % 2 else 3600.0)
        await self.judges.ask("matching", "offers_create", *args)

    async def due(self, who: int, which: int, how: int) -> None:
        job = None if how % 2 or not self.jobs else self.job(which)["id"]
        await self.judges.ask("matching", "jobs_due", job, 200, 2.0, [MARKET], [(0.0, 3600.0)[how % 3 == 0]])

    async def lapse(self, who: int, which: int, how: int) -> None:
        if (job := self.job(which)) is not None:
            await self.judges.ask("matching", "offers_lapse", job["id"])

    async def close(self, who: int, which: int, how: int) -> None:
        await self.judges.ask("matching", "offers_left_open", 200)
        if (job := self.job(which)) is not None:
            await self.judges.ask("matching", "offers_close", job["id"])

    async def void(self, who: int, which: int, how: int) -> None:
        await self.judges.ask("matching", "jobs_lock_of", self.provider(who))
        await self.judges.ask("matching", "offers_void", self.provider(who), "revoked")

    def _offers_of(self, who: int) -> list[Any]:
        rows = self.judges.tables.rows["offers"].values()
        return [offer for offer in rows if offer["provider_id"] == self.provider(who)]

    async def decline(self, who: int, which: int, how: int) -> None:
        mine = self._offers_of(who)
        offer = mine[which % len(mine)]["offer_id"] if mine else self.id()
        await self.judges.ask(
            "matching", "offers_decline", self.users[who % 3], offer, "far", actor=self.actor(who % 3)
        )

    async def rest(self, who: int, which: int, how: int) -> None:
        if (job := self.job(which)) is not None:
            if how % 2:
                await self.judges.ask("matching", "jobs_rest", job["id"])
            await self.judges.ask("matching", "jobs_wake", MARKET, ["ride"], 50)

    # --- the accept

    async def accept(self, who: int, which: int, how: int) -> None:
        job = self.job(which)
        if job is None:
            return
        mine = [offer for offer in self._offers_of(who) if offer["job_id"] == job["id"]]
        offer = mine[-1]["offer_id"] if mine and how % 4 != 3 else None
        if how % 11 == 10:
            offer = self.id()
        round = None if how % 2 else job["round"] - (how % 9 == 8)
        key = self.keys.setdefault((who % 3, how % 6), str(self.id()))
        board = how % 4 == 3
        place = (13.75, 100.5, datetime.now(UTC)) if how % 3 else (None, None, None)
        user = self.users[who % 4]
        args = (
            user,
            job["id"],
            offer,
            round,
            self.id(),
            key,
            f"{job['id']}{how % 13 == 12}",
            board,
            self.id() if board else None,
            42,
            *place,
        )
        await self.judges.ask("claims", "accept_job", *args, role="app")
        await self.judges.ask("claims", "accept_kept", user, key, args[6])

    async def accept_nothing(self, who: int, which: int, how: int) -> None:
        args = (
            self.users[who % 4],
            self.id(),
            None,
            None,
            self.id(),
            str(self.id()),
            "f",
            False,
            None,
            0,
            None,
            None,
            None,
        )
        await self.judges.ask("claims", "accept_job", *args, role="app")

    # --- providers

    async def on(self, who: int, which: int, how: int) -> None:
        place = (13.75, 100.5) if how % 2 == 0 else (None, None)
        narrowed = ["ride"] if how % 3 == 1 else None
        await self.judges.ask(
            "providers", "online_set", self.provider(who), True, *place, "provider", narrowed, actor=self.actor(who % 3)
        )

    async def off(self, who: int, which: int, how: int) -> None:
        role = ("provider", "system")[how % 2]
        await self.judges.ask("providers", "online_set", self.provider(who), False, None, None, role, None)

    async def judged(self, who: int, which: int, how: int) -> None:
        provider = self.provider(who)
        gate = await self.judges.ask("providers", "gate_lock", provider)
        suspended = gate["status"] == "suspended"
        args = ("approved", None, None) if suspended else ("suspended", "because", "admin")
        await self.judges.ask("providers", "status_set", provider, *args, None, self.admin.user_id, actor=self.admin)
        await self.judges.ask("providers", "suspension_cause", provider)
        if how % 3 == 0:
            await self.judges.ask("providers", "status_set", provider, *args, None, None, actor=self.actor(who % 3))

    async def stands(self, who: int, which: int, how: int) -> None:
        provider, user = self.provider(who), self.users[who % 5]
        await self.judges.ask("providers", "provider_state", user)
        await self.judges.ask("providers", "provider_states", self.users)
        await self.judges.ask("providers", "last_place", user)
        await self.judges.ask("providers", "application", provider)
        await self.judges.ask("providers", "lack", provider, ("ride", "moving")[how % 2])
        await self.judges.ask("providers", "clear", provider)
        await self.judges.ask("matching", "providers_gone", (0.0, 3600.0)[how % 2], 200)

    # --- sockets and workers

    async def socket(self, who: int, which: int, how: int) -> None:
        device, worker = f"d{which % 3}", f"w{how % 2 + 1}"
        args = (self.users[who % 5], device, 1 + which % 2 + how, worker, self.id(), 1 if who % 5 < 3 else 2)
        await self.judges.ask("inbox", "socket_open", *args)

    async def hang_up(self, who: int, which: int, how: int) -> None:
        sockets = list(self.judges.tables.rows["sockets"].values())
        gone = [sockets[which % len(sockets)]["conn_id"]] if sockets else []
        await self.judges.ask("inbox", "socket_lost", gone, f"w{how % 2 + 1}")
        await self.judges.ask("inbox", "sockets_of_worker", f"w{how % 2 + 1}")
        for socket in sockets[:3]:
            conn = socket["conn_id"] if how % 3 else self.id()
            await self.judges.ask(
                "inbox", "sockets_why", [conn], [socket["user_id"]], [socket["device"]], [1 + how % 2]
            )
            await self.judges.ask(
                "inbox", "sockets_why", [conn], [socket["user_id"]], [f"{socket['device']}x"], [1 + how % 2]
            )

    async def beat(self, who: int, which: int, how: int) -> None:
        await self.judges.ask("inbox", "worker_beat", f"w{how % 2 + 1}")

    async def sign_off(self, who: int, which: int, how: int) -> None:
        await self.judges.ask("inbox", "worker_gone", f"w{how % 2 + 1}")

    async def bury(self, who: int, which: int, how: int) -> None:
        if how % 2:
            await self.judges.age("workers", "beat_at", 60)
        await self.judges.ask("inbox", "workers_dead")

    # --- the inbox

    async def tell(self, who: int, which: int, how: int) -> None:
        users = [self.users[(who + step) % 5] for step in range(how % 4 + 1)]
        await self.judges.ask("inbox", "append", users, ["job.updated"] * len(users), [b'{"n":%d}' % how] * len(users))

    async def read(self, who: int, which: int, how: int) -> None:
        user = self.users[who % 5]
        await self.judges.ask("inbox", "head", user)
        await self.judges.ask("inbox", "heads_beyond", self.users, [which] * 5)
        await self.judges.ask("inbox", "after", user, which, which + how, 3)
        await self.judges.ask("inbox", "repeat", user, which, which + how, 3)
        await self.judges.ask("inbox", "acked", user)

    async def ack(self, who: int, which: int, how: int) -> None:
        users = sorted({self.users[who % 5], self.users[which % 5]})
        await self.judges.ask("inbox", "mark_acked", users, [how] * len(users))

    async def once(self, who: int, which: int, how: int) -> None:
        actor, key = self.actor(who), f"k{which}"
        said = await self.judges.ask("accounts", "idem_begin", actor.user_id, key, f"f{how % 2}", actor=actor)
        if said["word"] == "new" or how % 5 == 4:
            await self.judges.ask(
                "accounts", "idem_finish", actor.user_id, key, f"f{how % 2}", 200, '{"a":1}', actor=actor
            )
        if how % 3 == 0:
            await self.judges.ask("accounts", "idem_begin", self.users[(who + 1) % 5], key, "f", actor=actor)

    async def shut(self, who: int, which: int, how: int) -> None:
        """An admin shuts somebody out or lets him in; a door asks who he is; the revoker asks who has changed."""
        user = self.users[who % 5] if which else self.id()
        if which:
            await self.judges.ask("accounts", "user_blocked_set", user, how % 2 == 0, "because", actor=self.admin)
        await self.judges.ask("accounts", "user_ensure", user, "Somchai", None, None, None, False, role="app")
        await self.judges.ask("accounts", "users_changed")

    async def audited(self, who: int, which: int, how: int) -> None:
        fields = (self.id(), self.admin.user_id, "release", "job", self.id(), b"{}", None, "because", None, None)
        await self.judges.ask("audit", "write", *fields, actor=self.admin)

    # --- time

    async def later(self, who: int, which: int, how: int) -> None:
        """An hour passes for the offers, for the searches, or for those under way alone."""
        if how % 3 == 0:
            await self.judges.age("jobs", "offer_deadline", 3600)
            await self.judges.age("offers", "expires_at", 3600)
        else:
            await self.judges.age("jobs", "searched_until", 3600)
            if how % 3 == 1:
                await self.judges.age("jobs", "next_search_at", 3600)


Act = Callable[[Play, int, int, int], Awaitable[None]]
ACTS: list[Act] = [
    Play.create, Play.look, Play.advance, Play.cancel, Play.strangers_cancel, Play.release, Play.offer, Play.due, Play.lapse, Play.close, Play.void,
    Play.decline, Play.rest, Play.accept, Play.accept_nothing, Play.on, Play.off, Play.judged, Play.stands, Play.socket, Play.hang_up,
    Play.beat, Play.sign_off, Play.bury, Play.tell, Play.read, Play.ack, Play.once, Play.shut, Play.audited, Play.later,
]  # fmt: skip
LIKELY: list[Act] = [
    Play.create,
    Play.offer,
    Play.offer,
    Play.accept,
    Play.accept,
    Play.advance,
    Play.release,
    Play.close,
    Play.later,
]
"""Drawn as often again: what makes a history long."""
EVERY: list[tuple[Act, int, int, int]] = [
    (Play.create, 0, 0, 1), (Play.create, 0, 1, 0), (Play.tell, 0, 0, 3), (Play.read, 0, 0, 4), (Play.ack, 0, 1, 2), (Play.once, 3, 0, 0),
    (Play.once, 3, 0, 4), (Play.look, 3, 0, 0), (Play.due, 0, 0, 0), (Play.offer, 7, 0, 1), (Play.look, 0, 0, 0), (Play.decline, 0, 0, 0), (Play.accept, 1, 0, 0),
    (Play.accept, 1, 0, 0), (Play.accept, 1, 0, 2), (Play.accept, 2, 0, 1), (Play.release, 0, 0, 0), (Play.due, 0, 0, 0), (Play.offer, 4, 0, 1),
    (Play.accept, 2, 0, 4), (Play.close, 0, 0, 0), (Play.advance, 0, 0, 1), (Play.advance, 0, 0, 1), (Play.advance, 0, 0, 0),
    (Play.rest, 0, 1, 1), (Play.offer, 1, 1, 1), (Play.later, 0, 0, 1), (Play.lapse, 0, 1, 0), (Play.accept, 0, 1, 3), (Play.void, 0, 0, 1), (Play.release, 0, 1, 1),
    (Play.cancel, 0, 1, 0), (Play.stands, 0, 0, 1), (Play.judged, 0, 0, 0), (Play.off, 1, 0, 1), (Play.hang_up, 0, 0, 0), (Play.beat, 0, 0, 0),
    (Play.bury, 0, 0, 1), (Play.sign_off, 0, 0, 1), (Play.audited, 0, 0, 0), (Play.accept_nothing, 0, 0, 0), (Play.strangers_cancel, 0, 1, 0), (Play.shut, 0, 0, 0),
    (Play.shut, 1, 1, 0), (Play.shut, 1, 1, 1), (Play.create, 0, 2, 4), (Play.cancel, 0, 2, 1),
]  # fmt: skip
"""A history in which every modelled statement occurs."""
