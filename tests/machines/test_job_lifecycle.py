"""The life of a job against a plain model of it: statuses, rounds, versions, history, and who is told what. I2 throughout."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from protocol.lifecycle import AdminAction, ServiceType, Stage
from protocol.resources import JobRequest, Place
from tests.machines.stage import MACHINE, acting, stage_of, word_of
from tests.machines.stage import Stage as Theatre
from tests.support.server import BANGKOK

# A provider's cancellation before pickup opens a new round in the one city and ends the job in the other, which is also too far
# away for the open board.
CITIES = {"bkk": BANGKOK, "sf": (37.7749, -122.4194)}
SETTINGS = {"bkk": {"redispatch": True}, "sf": {"redispatch": False}}
OPEN, ACTIVE = ("pending", "offered"), ("accepted", "arrived", "in_progress")
NEXT = {"accepted": "arrived", "arrived": "in_progress", "in_progress": "completed"}
PROVIDERS, CUSTOMERS, JOBS = 3, 2, 4

who = st.integers(0, PROVIDERS - 1)
which = st.integers(0, 59)
"""A job: below 48 one that the rule has something to do with, if there is any, and any else."""
seldom = st.integers(0, 3).map(lambda number: number == 0)


@dataclass
class Job:
    """A job as it should be."""

    id: UUID
    customer: UUID
    city: str
    status: str = "pending"
    round: int = 0
    version: int = 1
    provider: int | None = None
    live: dict[int, UUID] = field(default_factory=dict)
    offers: dict[int, UUID] = field(default_factory=dict)
    """The newest offer of each, whatever became of it."""
    declined: set[UUID] = field(default_factory=set)
    answered: set[int] = field(default_factory=set)
    """Never offered it again: they declined, or had it."""
    late: bool = False
    """The round's deadline has passed, and nobody has noticed yet."""
    over: bool = False
    """The job's own time has passed, and nobody has noticed yet."""
    path: list[tuple[str | None, str, int, str]] = field(default_factory=list)

    def step(self, to: str, by: str) -> None:
        self.path.append((self.status, to, self.round, by))
        self.version += 1
        self.status = to

    @property
    def mark(self) -> tuple[Any, ...]:
        """What an event says of the job."""
        return str(self.id), self.status, self.round, self.version


@dataclass
class Provider:
    user: UUID
    id: UUID
    on: bool = False
    status: str = "approved"
    reachable: bool = True

    @property
    def may(self) -> bool:
        return self.on and self.status != "suspended"

    @property
    def mark(self) -> tuple[Any, ...]:
        return self.on, self.status


class Lifecycle(RuleBasedStateMachine):
    """Every rule does one thing to the server and to the model; then both must look alike, and the right people have been told."""

    def __init__(self, theatre: Theatre) -> None:
        super().__init__()
        self.theatre = theatre
        self.app = theatre.app
        self.providers = [Provider(*pair) for pair in theatre.providers(PROVIDERS)]
        self.customers = theatre.customers(CUSTOMERS)
        self.admin = acting(theatre.customers(1)[0], "admin")
        self.jobs: list[Job] = []
        self.told: Counter[tuple[Any, ...]] = Counter()  # what this step must tell
        self.seqs = dict.fromkeys([*self.customers, *(one.user for one in self.providers)], 0)
        self.wins: list[tuple[int, UUID, UUID | None, int | None, str]] = []

    def teardown(self) -> None:
        """What is left over is nobody's business any more."""
        self.theatre.forget([job.id for job in self.jobs])

    # --- what should happen

    def tell(self, user: UUID, name: str, *about: Any) -> None:
        self.told[(user, name, *about)] += 1

    def busy(self, who: int) -> Job | None:
        return next((job for job in self.jobs if job.provider == who and job.status in ACTIVE), None)

    def withdraw(self, job: Job, reason: str, *whose: int) -> None:
        gone = [one for one in whose if one in job.live]
        for one in gone:
            offer = job.live.pop(one)
            self.tell(self.providers[one].user, "offer.withdrawn", str(offer), str(job.id), reason)
        if not job.live:
            job.late = False
        if gone and not job.live and reason in ("declined", "revoked") and job.over and job.status in OPEN:
            self.cancelled(job, "system", "system")  # it is searched again at once, and that finds its time up

    def revoke(self, who: int) -> None:
        for job in self.jobs:
            self.withdraw(job, "revoked", who)

    def cancelled(self, job: Job, by: str, role: str) -> None:
        job.step("cancelled", role)
        self.withdraw(job, "cancelled", *range(PROVIDERS))
        self.tell(job.customer, "job.cancelled", *job.mark, by)
        if job.provider is not None:
            self.tell(self.providers[job.provider].user, "job.cancelled", *job.mark, by)

    def released(self, job: Job, by: str, role: str) -> None:
        assert job.provider is not None
        job.round += 1
        job.step("offered", role)
        self.tell(self.providers[job.provider].user, "job.cancelled", str(job.id), by)
        self.tell(job.customer, "job.updated", *job.mark)
        job.provider = None

    def shifted(self, who: int) -> None:
        provider = self.providers[who]
        self.tell(provider.user, "provider.updated", *provider.mark)

    def pick(self, number: int, fit: Callable[[Job], object]) -> Job:
        jobs = [job for job in self.jobs if fit(job)] if number < 48 else []
        jobs = jobs or self.jobs
        return jobs[number % len(jobs)]

    def open(self, job: Job) -> bool:
        return job.status in OPEN

    # --- what is done

    @initialize()
    def everybody_comes_on(self) -> None:
        for number in range(PROVIDERS):
            self.goes_online(number)
            self.everything_is_as_it_should_be()
        for city in CITIES:
            self.is_requested(0, city)

    @precondition(lambda self: sum(job.status in (*OPEN, *ACTIVE) for job in self.jobs) < JOBS)
    @rule(customer=st.integers(0, CUSTOMERS - 1), city=st.sampled_from([*CITIES]))
    def is_requested(self, customer: int, city: str) -> None:
        lat, lng = CITIES[city]
        request = JobRequest(service_type=ServiceType.RIDE, pickup=Place(lat=lat, lng=lng, address="here"))
        answer = self.theatre.run(self.app.jobs.create(acting(self.customers[customer]), request, str(uuid4())))
        job = Job(UUID(orjson.loads(answer.body)["id"]), self.customers[customer], city)
        job.path.append((None, "pending", 0, "customer"))
        self.jobs.append(job)
        self.tell(job.customer, "job.created", *job.mark)

    @rule(which=which)
    def is_offered_to_all(self, which: int) -> None:
        self.is_offered(which, set(range(PROVIDERS)))

    @rule(which=which, asked=st.sets(who, min_size=1))
    def is_offered(self, which: int, asked: set[int]) -> None:
        job = self.pick(which, lambda job: job.status in OPEN and not job.live)
        fit = {
            one
            for one in asked
            if self.providers[one].may
            and self.providers[one].reachable
            and not self.busy(one)
            and one not in job.answered
        }
        closed = job.status not in OPEN or job.over or job.live
        word, offers = self.theatre.run(
            self.theatre.offer(job.id, job.round, [self.providers[one].id for one in sorted(asked)])
        )
        assert word == ("closed" if closed else "offered" if fit else "nobody")
        if word != "offered":
            return
        made = {one: offers[self.providers[one].id] for one in fit}
        assert len(offers) == len(made)
        job.round += 1
        job.step("offered", "system")
        job.live = dict(made)
        job.offers |= made
        for one, offer in made.items():
            self.tell(self.providers[one].user, "offer.created", str(job.id), str(offer), job.round)
        self.tell(job.customer, "job.updated", *job.mark)

    @rule(which=which, who=who)
    def is_won(self, which: int, who: int) -> None:
        """Offered to everybody, and somebody says yes: without this the later chapters of a life are rare."""
        self.is_offered(which, set(range(PROVIDERS)))
        self.everything_is_as_it_should_be()
        self.is_accepted_by_one_asked(0, who)

    @rule(which=which, who=who)
    def is_accepted_by_one_asked(self, which: int, who: int) -> None:
        job = self.pick(which, lambda job: job.live)
        asked = sorted(job.live) or [who]
        self.accepts(job, asked[who % len(asked)], named=True, fenced=0)

    @rule(which=which, who=who, named=st.booleans(), fenced=st.sampled_from([None, 0, 0, -1]))
    def is_accepted(self, which: int, who: int, named: bool, fenced: int | None) -> None:
        self.accepts(self.pick(which, self.open), who, named=named, fenced=fenced)

    def accepts(self, job: Job, who: int, *, named: bool, fenced: int | None) -> None:
        offer = job.offers.get(who) if named else None
        round = None if fenced is None else max(job.round + fenced, 0)
        key = str(uuid4())
        word = self.theatre.run(
            word_of(self.app.claims.accept(acting(self.providers[who].user), job.id, offer, round, key))
        )
        if job.provider == who and job.status != "cancelled" and round in (None, job.round):
            assert word == "done", "his already"
            return
        refusals = self.refusals(job, who, offer, round)
        assert word in refusals if refusals else word == "done", f"{word}, not {refusals or 'done'}"
        if not refusals:
            self.accepted(job, who, by_offer=who in job.live)
            self.wins.append((who, job.id, offer, round, key))

    def refusals(self, job: Job, who: int, offer: UUID | None, round: int | None) -> set[str]:
        """Everything that stands against this accept; any of it may be the answer."""
        provider, no = self.providers[who], set()
        if provider.status == "suspended":
            no.add("PROVIDER_SUSPENDED")
        if not provider.on:
            no.add("PROVIDER_OFFLINE")
        if self.busy(who):
            no.add("PROVIDER_HAS_ACTIVE_JOB")
        if job.status == "cancelled":
            no.add("JOB_NOT_AVAILABLE:cancelled")
        elif job.status not in OPEN:
            no.add("JOB_NOT_AVAILABLE:accepted")
        board = offer is None and job.city == "bkk"
        standing = who in job.live and not job.late and (offer is None or offer == job.live[who])
        on_the_board = board and who not in job.live and who not in job.answered
        if job.over or round not in (None, job.round) or not (standing or on_the_board):
            no.add("JOB_NOT_AVAILABLE:expired")
        if offer is None and not board and who not in job.offers:
            no.add("OFFER_NOT_FOUND")
        return no

    def accepted(self, job: Job, who: int, *, by_offer: bool) -> None:
        job.provider = who
        job.round = max(job.round, 1)
        if job.status == "pending":
            job.step("offered", "system")
        job.step("accepted", "provider")
        job.answered.add(who)
        if by_offer:
            self.withdraw(job, "accepted", who)
        else:
            job.offers.pop(who, None)
        self.withdraw(job, "taken", *range(PROVIDERS))
        self.revoke(who)
        self.tell(self.providers[who].user, "job.updated", *job.mark)
        self.tell(job.customer, "job.accepted", *job.mark)

    @precondition(lambda self: self.wins)
    @rule(number=st.integers(0, 20))
    def an_accept_is_sent_again(self, number: int) -> None:
        who, job_id, offer, round, key = self.wins[number % len(self.wins)]
        work = self.app.claims.accept(acting(self.providers[who].user), job_id, offer, round, key)
        assert self.theatre.run(word_of(work)) == "done", "the stored answer, whatever came after"

    @rule(which=which, who=who)
    def is_declined(self, which: int, who: int) -> None:
        job = self.pick(which, lambda job: who in job.live)
        if who not in job.offers:
            return
        offer = job.offers[who]
        work = self.app.matching.decline(acting(self.providers[who].user), offer, "too far", str(uuid4()))
        word = self.theatre.run(word_of(work))
        if offer in job.declined:
            assert word == "done", "again is fine"
        elif job.status == "cancelled":
            assert word == "JOB_NOT_AVAILABLE:cancelled"
        elif job.status not in OPEN:
            assert word == "JOB_NOT_AVAILABLE:accepted"
        elif job.live.get(who) != offer or job.late:
            assert word == "JOB_NOT_AVAILABLE:expired"
        else:
            assert word == "done"
            job.declined.add(offer)
            job.answered.add(who)
            self.withdraw(job, "declined", who)

    @rule(which=which)
    def goes_on(self, which: int) -> None:
        job = self.pick(which, lambda job: job.status in ACTIVE)
        self.is_advanced(self.jobs.index(job) + 60, job.provider or 0, "next")

    @rule(which=which, who=who, to=st.sampled_from(["next", *Stage]))
    def is_advanced(self, which: int, who: int, to: str) -> None:
        job = self.pick(which, lambda job: job.status in ACTIVE) if which < 60 else self.jobs[which - 60]
        goal = NEXT.get(job.status, "arrived") if to == "next" else str(to)
        work = self.app.jobs.advance(acting(self.providers[who].user), job.id, Stage(goal), key=str(uuid4()))
        word = self.theatre.run(word_of(work))
        if job.provider != who:
            assert word == ("FORBIDDEN" if who in job.live and not job.late and job.status in OPEN else "JOB_NOT_FOUND")
        elif NEXT.get(job.status) != goal:
            assert word == "INVALID_STATUS_TRANSITION"
        else:
            assert word == "done"
            job.step(goal, "provider")
            self.tell(self.providers[who].user, "job.updated", *job.mark)
            self.tell(job.customer, "job.completed" if goal == "completed" else "job.updated", *job.mark)
            if goal == "completed":
                self.tell(self.providers[who].user, "earnings.created", str(job.id))
                self.tell(self.providers[who].user, "wallet.updated")

    @rule(which=which, by=st.sampled_from(["customer", "provider", "admin"]))
    def is_cancelled(self, which: int, by: str) -> None:
        job = self.pick(which, lambda job: job.status in ACTIVE or by != "provider")
        if by == "provider" and job.provider is None:
            return
        actor = {
            "customer": acting(job.customer),
            "provider": acting(self.providers[job.provider or 0].user),
            "admin": self.admin,
        }[by]
        word = self.theatre.run(word_of(self.app.jobs.cancel(actor, job.id, "because", str(uuid4()))))
        if job.status in ("completed", "cancelled"):
            assert word == "INVALID_STATUS_TRANSITION"
            return
        assert word == "done"
        told = "system" if by == "admin" else by
        if by == "provider" and job.city == "bkk" and job.status in ("accepted", "arrived"):
            self.released(job, told, by)
        else:
            self.cancelled(job, told, by)

    @rule(which=which)
    def is_released(self, which: int) -> None:
        job = self.pick(which, lambda job: job.status in ("accepted", "arrived"))
        word = self.theatre.run(word_of(self.app.jobs.release(self.admin, job.id, "the office says so", str(uuid4()))))
        if job.status in ("accepted", "arrived"):
            assert word == "done"
            self.released(job, "system", "admin")
        else:
            assert word == "INVALID_STATUS_TRANSITION"

    # --- what time does: the books are set back, so that its moment has come

    @rule(which=which)
    def a_rounds_deadline_passes(self, which: int) -> None:
        job = self.pick(which, lambda job: job.live and job.status in OPEN)
        if job.live:
            past = "clock_timestamp() - interval '1 ms'"
            self.theatre.sql(
                f"UPDATE jobs SET offer_deadline = {past}, next_search_at = {past} WHERE id = $1 AND status = 'offered'",
                job.id,
            )
            self.theatre.sql(f"UPDATE offers SET expires_at = {past} WHERE job_id = $1 AND status = 'live'", job.id)
            job.late = True

    @rule(which=which, really=seldom)
    def a_jobs_time_passes(self, which: int, really: bool) -> None:
        job = self.pick(which, self.open)
        if really and job.status in OPEN:
            past = "clock_timestamp() - interval '1 ms'"
            self.theatre.sql(f"UPDATE jobs SET expires_at = {past}, next_search_at = {past} WHERE id = $1", job.id)
            job.over = True

    @rule()
    def the_loop_turns(self) -> None:
        self.theatre.run(self.app.matching.turn())
        for job in self.jobs:
            if job.status in OPEN and job.over:
                self.cancelled(job, "system", "system")
            elif job.status in OPEN and job.late:
                self.withdraw(job, "expired", *range(PROVIDERS))

    @rule()
    def the_reconciler_finds_nothing(self) -> None:
        self.theatre.run(self.app.matching.settle())

    # --- providers

    @rule(who=who)
    def goes_online(self, who: int) -> None:
        provider = self.providers[who]
        word = self.theatre.run(word_of(self.app.shifts.start(acting(provider.user), BANGKOK, None, str(uuid4()))))
        if provider.status == "suspended":
            assert word == "PROVIDER_SUSPENDED"
            return
        assert word == "done"
        if not provider.on:
            provider.on, provider.status = True, "active"
            self.shifted(who)

    @rule(who=who, really=seldom)
    def goes_offline(self, who: int, really: bool) -> None:
        if not really:
            return
        provider = self.providers[who]
        assert self.theatre.run(word_of(self.app.shifts.end(acting(provider.user), str(uuid4())))) == "done"
        self.revoke(who)
        if provider.on:
            provider.on = False
            self.shifted(who)

    @rule(who=who, really=seldom)
    def is_gone_for_45_seconds(self, who: int, really: bool) -> None:
        if not really:
            return
        provider, job = self.providers[who], self.busy(who)
        for books in ("sockets SET lost_at", "provider_gate SET changed_at"):
            self.theatre.sql(f"UPDATE {books} = clock_timestamp() - interval '60 s' WHERE user_id = $1", provider.user)
        self.theatre.beaten()
        self.theatre.run(self.app.shifts.sweep(45.0))
        provider.reachable = False
        before_pickup = job is not None and job.status in ("accepted", "arrived")
        if not provider.on and not before_pickup:
            return
        self.revoke(who)
        if job is not None and before_pickup:
            self.released(job, "system", "system")
        if provider.on:
            provider.on = False
            self.shifted(who)

    @rule(who=who)
    def comes_back(self, who: int) -> None:
        if self.providers[who].status == "suspended":
            self.is_judged_by_the_office(who, AdminAction.REACTIVATE)
            self.everything_is_as_it_should_be()
        self.goes_online(who)
        self.theatre.sql("UPDATE sockets SET lost_at = NULL WHERE user_id = $1", self.providers[who].user)
        self.providers[who].reachable = True

    @rule(who=who, action=st.sampled_from([AdminAction.REACTIVATE] * 3 + [AdminAction.SUSPEND]))
    def is_judged_by_the_office(self, who: int, action: AdminAction) -> None:
        provider, job = self.providers[who], self.busy(who)
        word = self.theatre.run(word_of(self.app.admin.act(self.admin, provider.id, action, "papers", str(uuid4()))))
        if (provider.status == "suspended") is not (action is AdminAction.REACTIVATE):
            assert word == "INVALID_STATUS_TRANSITION"
            return
        assert word == "done"
        provider.status = "suspended" if action is AdminAction.SUSPEND else "approved"
        if action is AdminAction.SUSPEND:
            provider.on = False
            if job is not None:
                self.cancelled(job, "system", "admin")
            self.revoke(who)
        self.shifted(who)

    # --- what must hold after every step

    @invariant()
    def everything_is_as_it_should_be(self) -> None:
        self.events_are_those_of_the_step()
        ids = [job.id for job in self.jobs]
        rows = {row["id"]: row for row in self.theatre.sql("SELECT * FROM jobs WHERE id = ANY ($1::uuid[])", ids)}
        history = self.theatre.sql("SELECT * FROM job_events WHERE job_id = ANY ($1::uuid[]) ORDER BY version", ids)
        live = self.theatre.sql("SELECT * FROM offers WHERE job_id = ANY ($1::uuid[]) AND status = 'live'", ids)
        for job in self.jobs:
            row = rows[job.id]
            provider = None if job.provider is None else self.providers[job.provider].id
            assert (row["status"], row["round"], row["version"], row["provider_id"]) == (
                job.status, job.round, job.version, provider,
            )  # fmt: skip
            mine = [one for one in history if one["job_id"] == job.id]
            assert [(one["from_status"], one["to_status"], one["round"], one["actor_role"]) for one in mine] == job.path
            assert [one["version"] for one in mine] == list(range(1, job.version + 1)), "a row for each version"
            assert {one["offer_id"] for one in live if one["job_id"] == job.id} == set(job.live.values())
        active = [row["provider_id"] for row in rows.values() if row["status"] in ACTIVE]
        assert len(active) == len(set(active)), "I2"

    def events_are_those_of_the_step(self) -> None:
        rows = self.theatre.sql(
            """SELECT e.user_id, e.seq, e.name, e.body FROM events e JOIN unnest($1::uuid[], $2::bigint[]) AS s(u, seq)
               ON e.user_id = s.u AND e.seq > s.seq ORDER BY e.seq""",
            [*self.seqs],
            [*self.seqs.values()],
        )
        for row in rows:
            self.seqs[row["user_id"]] += 1
            assert row["seq"] == self.seqs[row["user_id"]], "I6: no gap"
        happened = Counter(
            (row["user_id"], row["name"], *digest(row["name"], orjson.loads(row["body"])))
            for row in rows
            if row["name"] != "notification.created"  # what is told besides is no part of this model
        )
        assert happened == self.told
        self.told = Counter()


def digest(name: str, data: dict[str, Any]) -> tuple[Any, ...]:
    """What of an event's data the model knows."""
    job = data.get("job", {})
    match name:
        case "offer.created":
            return job["id"], data["offer_id"], data["round"]
        case "offer.withdrawn":
            return data["offer_id"], data["job_id"], data["reason"]
        case "provider.updated":
            return data["provider"]["is_online"], data["provider"]["status"]
        case "earnings.created":
            return (data["earning"]["job_id"],)
        case "wallet.updated":
            return ()  # amounts are another machine's subject
        case "job.cancelled" if "status" not in job:
            return job["id"], data["by"]  # taken from him: it is nobody's of his any more, so he sees a glance of it
        case "job.cancelled":
            return job["id"], job["status"], job["round"], job["version"], data["by"]
    return job["id"], job["status"], job["round"], job["version"]


@pytest.fixture
def theatre(database_url: str, redis_url: str) -> Iterator[Theatre]:
    with stage_of(database_url, redis_url, markets=SETTINGS) as stage:
        yield stage


def test_jobs_live_as_the_model_says(theatre: Theatre) -> None:
    run_state_machine_as_test(lambda: Lifecycle(theatre), settings=settings(MACHINE, max_examples=45))
    lived = {
        (row["from_status"], row["to_status"])
        for row in theatre.sql("SELECT DISTINCT from_status, to_status FROM job_events")
    }
    assert lived >= {("pending", "offered"), ("offered", "accepted"), ("accepted", "arrived")}, (
        "too short to prove anything"
    )
