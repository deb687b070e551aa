"""The workload of reliability.md §4: providers who race for jobs, customers who order and call off, an office, money at the last satang.

Everybody acts by chance out of the seed, on phones that come back; every request is written down as it ends.
"""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import msgspec

from bench.chaos.asking import Asker, now_ns
from bench.chaos.phones import Counts, Phone, code_of
from bench.chaos.recorder import Recorder
from bench.demo.stage import Person
from bench.faults.history import Op, digest
from bench.faults.proxy import Proxy
from bench.faults.tables import said
from protocol.frames import Accept, Advance, Cancel, Decline, Event, Online, Reply, Request, Snapshot, Track
from protocol.lifecycle import MAY_WORK, Stage

STAGES = (Stage.ARRIVED, Stage.IN_PROGRESS, Stage.COMPLETED)
GIVE_UP_S = 90.0
"""A customer whose job is not over by then calls it off."""


class Habits(msgspec.Struct, frozen=True, kw_only=True):
    """How often people do what. Shares of 1, seconds."""

    jobs_per_s: float = 16.0
    live_jobs: int = 120
    simultaneous: float = 0.3
    """Of jobs: everybody who is offered one accepts at once."""
    accept: float = 0.85
    """Of offers, else."""
    declines: float = 0.5
    """Of those that are not accepted; the others are let lapse."""
    think_s: float = 1.5
    duplicates: float = 0.1
    cancels: float = 0.05
    gives_back: float = 0.01
    """Of jobs: their provider cancels on the way."""
    suspensions: float = 0.02
    """For each job."""
    withdrawals_per_s: float = 0.7
    reconnects_per_min: float = 0.2
    tracks: float = 0.2
    dwell_s: tuple[float, float] = (0.4, 2.4)
    """Between a job's stages."""
    locate_s: float = 9.0


@dataclass(eq=False, slots=True)
class Provider:
    """A provider with his phone."""

    person: Person
    phone: Phone
    online: bool = False
    switching: bool = False
    job: str = ""
    """That he drives."""
    gone: "deque[str]" = field(default_factory=lambda: deque(maxlen=64))
    """Offers that were withdrawn."""
    answered: "deque[str]" = field(default_factory=lambda: deque(maxlen=64))
    account: str = ""
    """His bank account."""
    provider_id: str = ""


@dataclass(eq=False, slots=True)
class Customer:
    """A customer with his phone."""

    person: Person
    phone: Phone
    ends: dict[str, "asyncio.Future[str]"] = field(default_factory=dict)
    """Jobs that are not over."""
    over: "deque[str]" = field(default_factory=lambda: deque(maxlen=64))
    """Those that are: he may hear of a job's end before the answer to his order, if that was lost."""


class City:
    """Everybody, and what they are doing now."""

    def __init__(
        self,
        links: Sequence[Proxy],
        asker: Asker,
        recorder: Recorder,
        habits: Habits,
        admin: Person,
        seed: int,
    ) -> None:
        self.habits = habits
        self.recorder = recorder
        self.counts = Counts()
        self.providers: list[Provider] = []
        self.customers: list[Customer] = []
        self.closing = False
        """No new jobs, suspensions or withdrawals; what is under way is finished."""
        self.pending: dict[str, Op] = {}
        """Socket requests that are out, by key."""
        self.live = 0
        self._links = links
        self._asker = asker
        self._admin = admin
        self._dice = random.Random(seed)
        self._tasks: set[asyncio.Task[Any]] = set()
        self._by_phone: dict[Phone, Provider | Customer] = {}

    # --- who there is

    def populate(
        self,
        providers: Sequence[Person],
        customers: Sequence[Person],
        places: Sequence[tuple[float, float]],
        accounts: Sequence[str],
    ) -> None:
        """A phone for each. `accounts`: bank accounts of the first of the providers."""
        for number, person in enumerate(providers):
            phone = self._phone(
                person, f"provider-{number}", places[number], self._provider_event, self._provider_state
            )
            provider = Provider(person, phone, account=accounts[number] if number < len(accounts) else "")
            self.providers.append(provider)
            self._by_phone[phone] = provider
        for number, person in enumerate(customers):
            place = self._dice.choice(places)
            phone = self._phone(person, f"customer-{number}", place, self._customer_event, self._customer_state)
            customer = Customer(person, phone)
            self.customers.append(customer)
            self._by_phone[phone] = customer

    def _phone(self, person: Person, device: str, place: tuple[float, float], on_event: Any, on_snapshot: Any) -> Phone:
        dice = random.Random(self._dice.getrandbits(64))
        return Phone(
            person,
            device,
            self._links,
            self.recorder,
            self.counts,
            dice,
            place,
            on_event=on_event,
            on_snapshot=on_snapshot,
        )

    @property
    def phones(self) -> list[Phone]:
        return [*self._by_phone]

    def busy(self, phone: Phone) -> bool:
        """Whether it is on a job."""
        who = self._by_phone[phone]
        return isinstance(who, Provider) and bool(who.job)

    def moves(self, phone: Phone) -> bool:
        """Whether it tells where it is: only those who are switched on do."""
        who = self._by_phone[phone]
        return isinstance(who, Provider) and who.online

    def in_flight(self, node: int) -> int:
        """Requests of clients that wait for this worker's answer now."""
        sockets = sum(
            asked.waiting
            for phone in self._by_phone
            if phone.live and phone.node == node
            for asked in phone.waiting.values()
        )
        return sockets + self._asker.in_flight[node]

    def go(self, work: Coroutine[Any, Any, Any]) -> None:
        """Something that somebody does beside the rest."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: "asyncio.Task[Any]") -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.counts.unexpected.append(f"the harness itself failed: {error!r}")

    @property
    def quiet(self) -> bool:
        """Nobody is doing anything."""
        return not self._tasks

    def doing(self) -> dict[str, int]:
        """What people are doing, and how many of them."""
        return dict(Counter(task.get_coro().__name__ for task in self._tasks))  # type: ignore[union-attr]

    async def end(self) -> None:
        """What is still open stays unknown."""
        tasks = [*self._tasks]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    # --- asking

    async def _by_socket(self, phone: Phone, frame: Request, op: Op) -> Reply:
        self.pending[op.key] = op
        try:
            reply = await phone.ask(frame)
            op.done = now_ns()
            op.word = "ok" if reply.ok else code_of(reply.error)
            if reply.ok:
                op.answer = said(reply.data or {})
            return reply
        finally:
            self.pending.pop(op.key, None)
            self.recorder.op(op)

    def _op(self, who: Phone, kind: Any, key: str, **given: Any) -> Op:
        return Op(at=now_ns(), client=who.device, user=who.person.user_id, kind=kind, key=key, **given)

    # --- providers

    def _provider_event(self, phone: Phone, event: Event) -> None:
        provider = self._by_phone[phone]
        assert isinstance(provider, Provider)
        if event.name == "offer.created":
            self._consider(provider, event.data)
        elif event.name == "offer.withdrawn":
            provider.gone.append(str(event.data["offer_id"]))
        elif event.name == "provider.updated":
            self._switched(provider, event.data["provider"])
        elif event.name == "job.cancelled" and event.data["job"]["id"] == provider.job:
            provider.job = ""

    def _provider_state(self, phone: Phone, snapshot: Snapshot) -> None:
        provider = self._by_phone[phone]
        assert isinstance(provider, Provider)
        if snapshot.provider is not None:
            self._switched(provider, snapshot.provider)
        for offer in snapshot.offers:
            self._consider(provider, offer)
        for job in snapshot.jobs:
            if job["status"] in ("accepted", "arrived", "in_progress") and not provider.job:
                self._drive(provider, job)

    def _switched(self, provider: Provider, state: dict[str, Any]) -> None:
        provider.provider_id = str(state["id"])
        provider.online = bool(state["is_online"])
        if state["status"] in MAY_WORK and not provider.online and not provider.switching:
            provider.switching = True
            self.go(self._switch_on(provider))

    async def _switch_on(self, provider: Provider) -> None:
        phone = provider.phone
        try:
            await asyncio.sleep(self._dice.uniform(0.0, 0.5))
            frame = Online(id=uuid4(), lat=phone.lat, lng=phone.lng)
            reply = await self._by_socket(phone, frame, self._op(phone, "online", str(frame.id)))
            provider.online = reply.ok
        finally:
            provider.switching = False

    def _consider(self, provider: Provider, offer: dict[str, Any]) -> None:
        offer_id, job_id = str(offer["offer_id"]), str(offer["job"]["id"])
        if offer_id in provider.answered:
            return
        provider.answered.append(offer_id)
        # By the job's id, so that everybody who is offered it thinks the same.
        at_once = UUID(job_id).int % 1000 < self.habits.simultaneous * 1000
        if at_once:
            self.go(self._accept(provider, offer, 0.0))
        elif self._dice.random() < self.habits.accept:
            self.go(self._accept(provider, offer, self._dice.uniform(0.0, self.habits.think_s)))
        elif self._dice.random() < self.habits.declines:
            self.go(self._decline(provider, offer_id, job_id))

    async def _decline(self, provider: Provider, offer: str, job: str) -> None:
        await asyncio.sleep(self._dice.uniform(0.0, self.habits.think_s))
        frame = Decline(id=uuid4(), offer_id=UUID(offer))
        await self._by_socket(
            provider.phone, frame, self._op(provider.phone, "decline", str(frame.id), offer=offer, job=job, body=offer)
        )

    async def _accept(self, provider: Provider, offer: dict[str, Any], think_s: float) -> None:
        if think_s:
            await asyncio.sleep(think_s)
            if str(offer["offer_id"]) in provider.gone and self._dice.random() < 0.5:
                return  # half of them read first
        phone, dice = provider.phone, self._dice
        job_id, offer_id = str(offer["job"]["id"]), str(offer["offer_id"])
        round = int(offer["round"]) if dice.random() < 0.9 else 0
        frame = Accept(id=uuid4(), job_id=UUID(job_id), offer_id=UUID(offer_id), round=round or None)
        what: dict[str, Any] = {
            "job": job_id,
            "round": round,
            "offer": offer_id,
            "body": f"{job_id}:{offer_id}:{round}",
        }
        if dice.random() < self.habits.duplicates:
            self.go(self._accept_again(provider, offer_id, self._op(phone, "accept", str(frame.id), **what)))
        op = self._op(phone, "accept", str(frame.id), **what)
        reply = await self._by_socket_won(phone, frame, op)
        if reply is not None:
            self._drive(provider, reply)

    async def _by_socket_won(self, phone: Phone, frame: Accept, op: Op) -> dict[str, Any] | None:
        """The job that was won, or None."""
        self.pending[op.key] = op
        try:
            reply = await phone.ask(frame)
            op.done = now_ns()
            op.word = "ok" if reply.ok else code_of(reply.error)
            if not reply.ok or reply.data is None:
                return None
            job: dict[str, Any] = reply.data["job"]
            op.told_round, op.answer = int(job["round"]), said(job)
            return job
        finally:
            self.pending.pop(op.key, None)
            self.recorder.op(op)

    async def _accept_again(self, provider: Provider, offer_id: str, op: Op) -> None:
        """The same request on a second line: HTTP, on whichever worker."""
        body: dict[str, object] = {"offer_id": offer_id}
        if op.round:
            body["round"] = op.round
        try:
            await asyncio.sleep(self._dice.choice((0.0, 0.0, 0.05, 1.0)))
            op.at = now_ns()
            answer = await self._asker.ask("POST", f"/v1/jobs/{op.job}/accept", provider.person.token, body, key=op.key)
            op.done, op.word = now_ns(), answer.word
            if answer.ok:
                op.told_round, op.answer = int(answer.data["job"]["round"]), said(answer.data)
        finally:
            self.recorder.op(op)

    def _drive(self, provider: Provider, job: dict[str, Any]) -> None:
        provider.job = str(job["id"])
        self.go(self._driven(provider, provider.job, str(job["status"])))

    async def _driven(self, provider: Provider, job: str, status: str) -> None:
        """From the status that it has to its end."""
        phone, dice = provider.phone, self._dice
        gives_back = dice.random() < self.habits.gives_back
        first = {"accepted": 0, "arrived": 1, "in_progress": 2}[status]
        try:
            for stage in STAGES[first:]:
                await asyncio.sleep(dice.uniform(*self.habits.dwell_s))
                if provider.job != job:
                    return
                if gives_back and stage is Stage.IN_PROGRESS:
                    cancel = Cancel(id=uuid4(), job_id=UUID(job), reason="flat tyre")
                    await self._by_socket(phone, cancel, self._op(phone, "cancel", str(cancel.id), job=job))
                    return
                done = stage is Stage.COMPLETED
                frame = Advance(
                    id=uuid4(), job_id=UUID(job), to=stage, distance_m=3000.0 if done else None, duration_s=600.0 if done else None
                )  # fmt: skip
                op = self._op(phone, "advance", str(frame.id), job=job, to=str(stage), body=f"{job}:{stage}")
                reply = await self._by_socket(phone, frame, op)
                if not reply.ok:
                    return
        finally:
            if provider.job == job:
                provider.job = ""

    # --- customers

    def _customer_event(self, phone: Phone, event: Event) -> None:
        customer = self._by_phone[phone]
        assert isinstance(customer, Customer)
        if event.name in ("job.completed", "job.cancelled"):
            self._over(customer, str(event.data["job"]["id"]), event.name)
        elif event.name == "job.accepted" and self._dice.random() < self.habits.tracks:
            self.go(self._track(phone, UUID(event.data["job"]["id"])))

    def _customer_state(self, phone: Phone, snapshot: Snapshot) -> None:
        customer = self._by_phone[phone]
        assert isinstance(customer, Customer)
        there = {str(job["id"]) for job in snapshot.jobs}
        for job in [*customer.ends]:
            if job not in there:
                self._over(customer, job, "snapshot")

    def _over(self, customer: Customer, job: str, word: str) -> None:
        end = customer.ends.get(job)
        customer.over.append(job)
        if end is not None and not end.done():
            end.set_result(word)

    async def _track(self, phone: Phone, job: UUID) -> None:
        await phone.ask(Track(id=uuid4(), job_id=job))

    async def orders(self) -> None:
        """New jobs at their pace, as long as there are fewer than wanted. Until cancelled."""
        loop = asyncio.get_running_loop()
        number = 0
        due = loop.time()
        while not self.closing:
            due = max(due + self._dice.expovariate(self.habits.jobs_per_s), loop.time() - 1.0)
            await asyncio.sleep(max(0.0, due - loop.time()))
            if self.live < self.habits.live_jobs and not self.closing:
                self.go(self._order(self.customers[number % len(self.customers)]))
                number += 1

    async def _order(self, customer: Customer) -> None:
        self.live += 1
        try:
            await self._ordered(customer)
        finally:
            self.live -= 1

    async def _ordered(self, customer: Customer) -> None:
        dice = self._dice
        near = dice.choice(self.providers).phone
        place = {"lat": round(near.lat + dice.gauss(0, 0.002), 5), "lng": round(near.lng + dice.gauss(0, 0.002), 5)}
        key = str(uuid4())
        body: dict[str, object] = {"service_type": "ride", "pickup": {**place, "address": f"{key[:8]} Chaos Road"}}
        if dice.random() < self.habits.duplicates:
            self.go(self._create(customer, key, body))
        job = await self._create(customer, key, body)
        if job is None or job in customer.over:
            return
        end = customer.ends.setdefault(job, asyncio.get_running_loop().create_future())
        patience_s = dice.uniform(0.1, 4.0) if dice.random() < self.habits.cancels else GIVE_UP_S
        try:
            async with asyncio.timeout(patience_s):
                await asyncio.shield(end)
        except TimeoutError:
            await self._call_off(customer, job)
        finally:
            customer.ends.pop(job, None)

    async def _create(self, customer: Customer, key: str, body: dict[str, object]) -> str | None:
        op = self._op(customer.phone, "create", key, body=digest("create", body))
        try:
            answer = await self._asker.ask("POST", "/v1/jobs", customer.person.token, body, key=key)
            op.done, op.word = now_ns(), answer.word
            if not answer.ok:
                return None
            op.job, op.answer = str(answer.data["id"]), said(answer.data)
            return op.job
        finally:
            self.recorder.op(op)

    async def _call_off(self, customer: Customer, job: str) -> None:
        key = str(uuid4())
        op = self._op(customer.phone, "cancel", key, job=job)
        try:
            answer = await self._asker.ask("POST", f"/v1/jobs/{job}/cancel", customer.person.token, {}, key=key)
            op.done, op.word = now_ns(), answer.word
            if answer.ok:
                op.answer = said(answer.data)
        finally:
            self.recorder.op(op)

    # --- the office, and chance

    async def office(self) -> None:
        """Suspends providers, and takes them back a moment later. Until cancelled."""
        while not self.closing:
            await asyncio.sleep(self._dice.expovariate(self.habits.suspensions * self.habits.jobs_per_s))
            known = [provider for provider in self.providers if provider.provider_id]
            if known and not self.closing:
                # Those who are on a job, and those who are being offered one, more often than not.
                working = [provider for provider in known if provider.job or provider.answered]
                self.go(self._suspended(self._dice.choice(working or known)))

    async def _suspended(self, provider: Provider) -> None:
        await self._act(provider, "suspend")
        await asyncio.sleep(self._dice.uniform(2.0, 6.0))
        await self._act(provider, "reinstate")

    async def _act(self, provider: Provider, kind: Any) -> None:
        key = str(uuid4())
        op = Op(
            at=now_ns(), client="office", user=self._admin.user_id, kind=kind, key=key, target=provider.person.user_id
        )
        body = {"action": "suspend" if kind == "suspend" else "reactivate", "reason": "chaos"}
        path = f"/v1/admin/providers/{provider.provider_id}/actions"
        try:
            answer = await self._asker.ask("POST", path, self._admin.token, body, key=key)
            op.done, op.word = now_ns(), answer.word
            if answer.ok:
                op.answer = said(answer.data)
        finally:
            self.recorder.op(op)

    async def spending(self) -> None:
        """Two withdrawals of a whole balance at one moment: one of them may have it. Until cancelled."""
        rich = [provider for provider in self.providers if provider.account]
        while not self.closing and rich:
            await asyncio.sleep(self._dice.expovariate(self.habits.withdrawals_per_s))
            if not self.closing:
                self.go(self._spend(self._dice.choice(rich)))

    async def _spend(self, provider: Provider) -> None:
        wallet = await self._asker.ask("GET", "/v1/wallet", provider.person.token)
        amount = int(wallet.data.get("available_minor", 0)) if wallet.ok else 0
        if amount <= 0:
            return
        key = str(uuid4())
        await asyncio.gather(self._withdraw(provider, amount, key), self._withdraw(provider, amount, str(uuid4())))
        if self._dice.random() < self.habits.duplicates:
            await self._withdraw(provider, amount, key)

    async def _withdraw(self, provider: Provider, amount: int, key: str) -> None:
        body: dict[str, object] = {"amount_minor": amount, "bank_account_id": provider.account, "currency": "THB"}
        op = self._op(provider.phone, "withdraw", key, body=digest("withdraw", body))
        try:
            answer = await self._asker.ask("POST", "/v1/withdrawals", provider.person.token, body, key=key)
            op.done, op.word = now_ns(), answer.word
            if answer.ok:
                op.answer = said(answer.data)
        finally:
            self.recorder.op(op)

    async def tunnels(self) -> None:
        """Phones that lose their line and come back. Until cancelled."""
        phones = self.phones
        while True:
            await asyncio.sleep(self._dice.expovariate(self.habits.reconnects_per_min * len(phones) / 60))
            phone = self._dice.choice(phones)
            if phone.live:
                phone.drop(self._dice.choice((0.0, 0.5, 3.0)))
