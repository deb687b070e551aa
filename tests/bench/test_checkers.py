"""The judges are judged: a history of an ideal server passes, and every way of breaking a promise is named by the invariant it breaks."""

import random
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bench.faults.checkers import CHECKERS, LOOKS, S, by_invariant, judge
from bench.faults.history import (
    NEVER,
    Balance,
    Entry,
    Fault,
    Final,
    History,
    Job,
    Offer,
    Op,
    Step,
    Told,
    read,
    write_lines,
)
from bench.faults.job_register import Did, State, step
from bench.faults.linearizable import Call, linearizable

MS = 1_000_000


class Ideal:
    """A server without faults, one step after the other; its clients see each step somewhere between their call and its answer."""

    def __init__(self, seed: int, *, jobs: int = 4, people: int = 5) -> None:
        self.dice = random.Random(seed)
        self.now = 1_000 * S
        self.people = [f"p{number}" for number in range(people)]
        self.history = History(final=Final(at=0))
        self.numbers: dict[str, int] = {}
        self.key = 0
        for number in range(jobs):
            self.life(f"j{number}")
        self.suspension()
        self.rest()

    def tick(self) -> int:
        self.now += self.dice.randrange(1, 400) * MS
        return self.now

    def op(self, kind: str, user: str, word: str, **given: object) -> None:
        """Done now: asked a little before, answered a little later."""
        self.key += 1
        ahead, behind = self.dice.randrange(1, 300) * MS, self.dice.randrange(1, 300) * MS
        self.history.ops.append(
            Op(at=self.now - ahead, done=self.now + behind, client=f"{user}/phone", user=user, kind=kind, key=f"k{self.key}", word=word, **given)  # type: ignore[arg-type]
        )  # fmt: skip

    def step(self, job: str, was: str, to: str, round: int, actor: str = "", role: str = "system") -> None:
        version = sum(row.job == job for row in self.history.final.steps) + 1
        self.history.final.steps.append(
            Step(job=job, version=version, was=was, to=to, round=round, actor=actor, role=role, at=self.now)
        )

    def tell(self, user: str, name: str, job: str = "", offer: str = "") -> None:
        seq = self.numbers[user] = self.numbers.get(user, 0) + 1
        found = f"{user}:{seq}:{name}:{job}{offer}"
        self.history.final.events.setdefault(user, []).append((seq, found))
        self.history.told.append(
            Told(at=self.now + MS, client=f"{user}/phone", user=user, socket="s", kind="event", seq=seq, name=name, job=job, offer=offer, digest=found)
        )  # fmt: skip

    def greet(self, user: str) -> None:
        if user not in self.numbers:
            self.numbers[user] = 0
            self.history.told.append(
                Told(at=self.now, client=f"{user}/phone", user=user, socket="s", kind="snapshot", seq=0)
            )
            if user in self.people:
                self.tick()
                self.op("online", user, "ok")
                self.now += 300 * MS

    def life(self, job: str) -> None:
        customer = f"c-{job}"
        for user in (customer, *self.people):
            self.greet(user)
        self.tick()
        self.op("create", customer, "ok", job=job, answer=job)
        self.step(job, "", "pending", 0, customer, "customer")
        self.tell(customer, "job.created", job)
        status, holder, round = "pending", "", 0
        for round in range(1, self.dice.randrange(2, 4)):
            self.tick()
            self.step(job, status, "offered", round)
            status, holder = "offered", ""
            asked = self.dice.sample(self.people, 3)
            opened = self.now
            winner = asked[0]
            self.tick()
            for user in asked:
                won = user == winner
                self.history.final.offers.append(
                    Offer(id=f"{job}/{round}/{user}", job=job, round=round, user=user, status="accepted" if won else "withdrawn", at=opened, expires=opened + 15 * S, responded=self.now)
                )  # fmt: skip
                self.tell(user, "offer.created", job, f"{job}/{round}/{user}")
            self.op("accept", winner, "ok", job=job, round=round, told_round=round, answer=f"{job}:{winner}")
            self.step(job, status, "accepted", round, winner, "provider")
            self.tell(customer, "job.accepted", job)
            status, holder = "accepted", winner
            self.now += 700 * MS  # so that the losers ask after the winner has had his job for sure
            for loser in asked[1:]:
                self.op("accept", loser, "accepted", job=job, round=round)
            self.refused(job, round, winner, asked)
        for to in ("arrived", "in_progress", "completed"):
            self.tick()
            self.op("advance", holder, "ok", job=job, to=to)
            self.step(job, status, to, round, holder, "provider")
            status = to
        self.now += 700 * MS
        self.op("advance", holder, "INVALID_STATUS_TRANSITION", job=job, to="completed", says="completed")
        self.op("cancel", customer, "INVALID_STATUS_TRANSITION", job=job, says="completed")
        self.tick()
        self.history.final.jobs.append(
            Job(id=job, status=status, round=round, version=sum(row.job == job for row in self.history.final.steps), customer=customer, holder=holder)
        )  # fmt: skip
        for account, amount in (("clearing", -100), (f"wallet {holder}", 100)):
            self.history.final.entries.append(
                Entry(transaction=f"t-{job}", kind="earning", account=account, currency="THB", amount=amount, job=job)
            )

    def refused(self, job: str, round: int, winner: str, asked: list[str]) -> None:
        """What the others are told, and the winner of other jobs, while he has this one."""
        stranger = next(user for user in self.people if user not in asked)
        self.op("accept", winner, "PROVIDER_HAS_ACTIVE_JOB", job=f"another than {job}")
        self.op("accept", stranger, "OFFER_NOT_FOUND", job=job, offer=f"{job}/{round}/{winner}")
        self.op("accept", stranger, "JOB_NOT_FOUND", job=f"none like {job}")
        self.op("advance", asked[1], "JOB_NOT_FOUND", job=job, to="arrived")
        self.op("cancel", asked[2], "FORBIDDEN", job=job)
        self.op("advance", winner, "INVALID_STATUS_TRANSITION", job=job, to="completed", says="accepted")
        self.now += 300 * MS

    def suspension(self) -> None:
        """One is suspended and let in again; another is switched off by the server, because his phone was gone; a third is shut out."""
        self.tick()
        self.op("suspend", "admin", "ok", target="p0")
        self.tell("p0", "provider.updated")
        self.now += 20 * S
        self.history.told.append(Told(at=self.now, client="p0/phone", user="p0", socket="s", kind="welcome"))
        self.op("accept", "p0", "PROVIDER_SUSPENDED", job="elsewhere")
        self.op("online", "p0", "PROVIDER_SUSPENDED")
        self.now += 700 * MS
        self.op("reinstate", "admin", "ok", target="p0")
        self.now += S
        self.op("accept", "p0", "PROVIDER_OFFLINE", job="elsewhere")
        self.now += S
        self.op("online", "p0", "ok")
        self.now += S
        self.history.final.shifts_ended["p1"] = [self.now]
        self.now += S
        self.op("accept", "p1", "PROVIDER_OFFLINE", job="elsewhere")
        self.now += S
        self.op("online", "p1", "ok")
        self.now += S
        self.op("block", "admin", "ok", target="p2")
        self.now += 20 * S
        self.op("accept", "p2", "FORBIDDEN", job="elsewhere")
        self.op("cancel", "p2", "FORBIDDEN", job="j0")
        self.now += S
        self.op("unblock", "admin", "ok", target="p2")
        self.now += S

    def rest(self) -> None:
        final = self.history.final
        final.at = self.now + 10 * S
        final.paid = True
        final.heads = dict(self.numbers)
        held: dict[str, int] = {}
        for entry in final.entries:
            held[entry.account] = held.get(entry.account, 0) + entry.amount
        final.balances = [
            Balance(account=name, currency="THB", amount=amount, floor=0 if name.startswith("wallet") else None)
            for name, amount in held.items()
        ]
        final.applied = {f"{user}/phone": seq for user, seq in self.numbers.items()}


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_an_ideal_history_passes(seed: int) -> None:
    assert judge(Ideal(seed).history) == []


def first(history: History, kind: str, **wanted: object) -> Op:
    return next(op for op in history.ops if op.kind == kind and all(getattr(op, k) == v for k, v in wanted.items()))


def second_winner(history: History) -> None:
    loser = first(history, "accept", word="accepted")
    loser.word, loser.told_round = "ok", loser.round


def told_too_early(history: History) -> None:
    won = first(history, "accept", word="ok")
    loser = first(history, "accept", word="accepted", job=won.job)
    accepted = next(row for row in history.final.steps if row.job == won.job and row.to == "accepted")
    loser.at, loser.done = accepted.at - 200 * MS, accepted.at - 100 * MS


def told_expired_of_a_live_offer(history: History) -> None:
    """By a request that names no round: his newest offer stood from his asking to his answer."""
    told_too_early(history)
    won = first(history, "accept", word="ok")
    loser = first(history, "accept", word="accepted", job=won.job)
    mine = next(o for o in history.final.offers if (o.job, o.round, o.user) == (loser.job, loser.round, loser.user))
    mine.at = loser.at - 1
    loser.word, loser.round = "expired", 0


def two_jobs(history: History) -> None:
    one = next(row for row in history.final.steps if row.to == "accepted")
    other = next(row for row in history.final.steps if row.to == "accepted" and row.job != one.job)
    other.actor, other.at = one.actor, one.at + 1


def forgotten_yes(history: History) -> None:
    won = first(history, "accept", word="ok")
    history.final.steps = [row for row in history.final.steps if row.job != won.job or row.version < 3]


def no_offer(history: History) -> None:
    history.final.offers = [offer for offer in history.final.offers if offer.status != "accepted"]


def offered_while_busy(history: History) -> None:
    row = next(row for row in history.final.steps if row.to == "accepted")
    history.final.offers.append(
        Offer(id="x", job="j3", round=9, user=row.actor, status="expired", at=row.at + MS, expires=row.at + 2 * MS)
    )


def offered_while_off(history: History) -> None:
    offer = next(one for one in history.final.offers if one.status == "withdrawn")
    history.ops.append(
        Op(at=offer.at - 3, done=offer.at - 2, client="x", user=offer.user, kind="offline", key="off", word="ok")
    )


def accepted_offer_made_while_busy(history: History) -> None:
    row = next(row for row in history.final.steps if row.to == "accepted")
    at = row.at + MS
    history.final.offers.append(
        Offer(id="x", job="j3", round=9, user=row.actor, status="accepted", at=at, expires=at + 9 * S, responded=at + S)
    )


def unbalanced(history: History) -> None:
    history.final.entries[0].amount -= 1


def below_the_floor(history: History) -> None:
    wallet = next(balance for balance in history.final.balances if balance.floor == 0)
    wallet.floor = wallet.amount + 1


def paid_twice(history: History) -> None:
    again = [deepcopy(entry) for entry in history.final.entries[:2]]
    for entry in again:
        entry.transaction = "another"
        next(one for one in history.final.balances if one.account == entry.account).amount += entry.amount
    history.final.entries += again


def unpaid(history: History) -> None:
    gone = history.final.entries[0].transaction
    history.final.entries = [entry for entry in history.final.entries if entry.transaction != gone]


def nothing_booked(history: History) -> None:
    history.final.entries, history.final.balances = [], []


def a_history_that_begins_late(history: History) -> None:
    """Nothing is forgotten in a run: a first number that was never committed is a gap like any other."""
    user = next(user for user, rows in history.final.events.items() if len(rows) > 1)
    del history.final.events[user][0]
    history.told = [told for told in history.told if (told.user, told.kind, told.seq) != (user, "event", 1)]
    next(told for told in history.told if (told.user, told.kind) == (user, "snapshot")).seq = 1


def a_head_without_its_event(history: History) -> None:
    history.final.heads["p1"] += 1


def lost_event(history: History) -> None:
    history.told.remove(next(told for told in history.told if told.kind == "event"))


def last_event_lost(history: History) -> None:
    told = [told for told in history.told if told.kind == "event" and told.user == "p1"][-1]
    history.told.remove(told)
    history.final.applied[told.client] -= 1


def event_out_of_thin_air(history: History) -> None:
    told = [told for told in history.told if told.kind == "event"][-1]
    ghost = deepcopy(told)
    ghost.seq += 1
    ghost.digest = "never committed"
    history.told.append(ghost)
    history.final.applied.pop(told.client, None)


def out_of_order(history: History) -> None:
    user = next(user for user, rows in history.final.events.items() if len(rows) > 1)
    events = [told for told in history.told if told.kind == "event" and told.user == user]
    events[0].seq, events[1].seq = events[1].seq, events[0].seq


def sent_out_of_order(history: History) -> None:
    told = next(told for told in history.told if told.kind == "event" and told.user == "p1")
    ahead = deepcopy(told)
    ahead.kind, ahead.seq = "gap", told.seq + 2
    history.told.insert(history.told.index(told), ahead)


def accepted_suspended(history: History) -> None:
    suspended = first(history, "suspend")
    history.final.steps.append(
        Step(job="jx", version=1, was="offered", to="accepted", round=1, actor="p0", at=suspended.done + S)
    )


def kept_through_suspension(history: History) -> None:
    suspended = first(history, "suspend")
    won = [row for row in history.final.steps if row.to == "accepted"][-1]
    won.actor = "p0"
    end = next(row for row in history.final.steps if row.job == won.job and row.to == "completed")
    end.at = suspended.done + S


def offered_suspended(history: History) -> None:
    suspended = first(history, "suspend")
    at = suspended.done + 3 * S
    history.final.offers.append(Offer(id="late", job="j0", round=7, user="p0", status="expired", at=at, expires=at + S))
    history.told.append(
        Told(
            at=at, client="p0/phone", user="p0", socket="s", kind="event", name="offer.created", offer="late", job="j0"
        )
    )


def never_told(history: History) -> None:
    history.told = [told for told in history.told if told.name != "provider.updated"]


def heard_while_shut_out(history: History) -> None:
    shut = first(history, "block")
    history.told.append(Told(at=shut.done + 6 * S, client="p2/phone", user="p2", socket="s", kind="welcome"))


def answered_while_shut_out(history: History) -> None:
    refused = first(history, "accept", word="FORBIDDEN")
    refused.kind, refused.word = "online", "ok"


def stuck(history: History) -> None:
    history.final.stuck.append("j0 offered, due 20 s ago")


def answered_twice(history: History) -> None:
    again = deepcopy(first(history, "accept", word="ok"))
    again.answer = "another"
    history.ops.append(again)


def refused_as_reused(history: History) -> None:
    """A key that was only ever sent with one body."""
    loser = first(history, "accept", word="accepted")
    loser.word = "IDEMPOTENCY_KEY_REUSED"


def made_twice_beside_a_refusal(history: History) -> None:
    """An order that was refused for good explains no second job of another key."""
    made = first(history, "create")
    refused = deepcopy(made)
    refused.key, refused.word, refused.job, refused.answer = "refused", "VALIDATION_ERROR", "", ""
    history.ops.append(refused)
    twin = next(deepcopy(job) for job in history.final.jobs if job.customer == made.user)
    twin.id = "twin"
    history.final.jobs.append(twin)


def made_twice(history: History) -> None:
    twin = deepcopy(history.final.jobs[0])
    twin.id = "twin"
    history.final.jobs.append(twin)


def overheard(history: History) -> None:
    told = next(told for told in history.told if told.name == "job.accepted")
    history.told.append(
        Told(at=told.at, client="c-j3/phone", user="c-j3", socket="s", kind="position", job="j0" if told.job != "j3" else "j1")
    )  # fmt: skip


def watched_by_a_loser(history: History) -> None:
    """Where a provider is, is told to the customer: not to those who were only offered the job."""
    offer = next(one for one in history.final.offers if one.status == "withdrawn")
    told = next(told for told in history.told if told.user == offer.user)
    history.told.append(
        Told(at=told.at, client=told.client, user=told.user, socket="s", kind="position", job=offer.job)
    )


def anothers_answer(history: History) -> None:
    told = history.told[-1]
    history.told.append(
        Told(at=told.at, client=told.client, user=told.user, socket="s", kind="stray", name="an id that he never sent")
    )


def anothers_frame(history: History) -> None:
    mine = [told for told in history.told if told.kind == "event" and told.user == "p1"][-1]
    other = next(told for told in history.told if told.kind == "event" and told.user == "p2")
    mine.digest = other.digest


def lost_cancel(history: History) -> None:
    at = history.final.jobs[-1]
    op = deepcopy(first(history, "create", job=at.id))
    op.kind, op.key, op.at, op.done = "cancel", "cancel", op.done + MS, op.done + 2 * MS
    history.ops.append(op)


def refusal(history: History, like: str, after: int = 10 * S, **given: object) -> None:
    """One more, of the last who asked so: a while after everything, when nothing of it is so any more."""
    told = next(op for op in reversed(history.ops) if op.word == like)
    again = deepcopy(told)
    again.key, again.at, again.done = "once more", history.final.at + after, history.final.at + after + S
    for name, value in given.items():
        setattr(again, name, value)
    history.ops.append(again)


def busy_without_a_job(history: History) -> None:
    refusal(history, "PROVIDER_HAS_ACTIVE_JOB")


def busy_with_this_very_job(history: History) -> None:
    busy = first(history, "accept", word="PROVIDER_HAS_ACTIVE_JOB")
    busy.job = next(op.job for op in history.ops if op.word == "ok" and op.kind == "accept" and op.user == busy.user)


def no_such_offer_that_he_names(history: History) -> None:
    mine = history.final.offers[-1]
    refusal(history, "OFFER_NOT_FOUND", user=mine.user, offer=mine.id, job=mine.job)


def no_such_offer_though_he_had_heard(history: History) -> None:
    """He names none, and was offered the job a moment ago: long before its row could be thought late."""
    mine = history.final.offers[0]
    told = next(one for one in history.told if one.offer == mine.id)
    at = told.at + MS
    refusal(history, "OFFER_NOT_FOUND", user=mine.user, offer="", job=mine.job, at=at, done=at + MS)


def no_such_job_though_there_is(history: History) -> None:
    refusal(history, "JOB_NOT_FOUND", kind="accept", job="j0")


def suspended_after_he_was_let_in(history: History) -> None:
    refusal(history, "PROVIDER_SUSPENDED")


def suspended_who_never_was(history: History) -> None:
    first(history, "online", word="PROVIDER_SUSPENDED").user = "p3"


def off_who_is_on(history: History) -> None:
    refusal(history, "PROVIDER_OFFLINE")


def off_before_his_shift_was_ended(history: History) -> None:
    (at,) = history.final.shifts_ended["p1"]
    refusal(history, "PROVIDER_OFFLINE", user="p1", at=at - 9, done=at - 8)


def shut_out_who_is_not(history: History) -> None:
    refusal(history, "FORBIDDEN", kind="accept")


def not_approved_who_was_offered_jobs(history: History) -> None:
    refusal(history, "PROVIDER_SUSPENDED", word="PROVIDER_NOT_APPROVED")


def papers_in_a_world_without_papers(history: History) -> None:
    history.final.paid = False
    refusal(history, "PROVIDER_SUSPENDED", word="DOCUMENTS_INCOMPLETE")


def may_not_move_on_what_he_may(history: History) -> None:
    history.ops.remove(first(history, "advance", word="ok", to="completed"))
    history.final.steps = [row for row in history.final.steps if row.to != "completed"]
    for job in history.final.jobs:
        job.status, job.version = "in_progress", job.version - 1
    refusal(history, "INVALID_STATUS_TRANSITION", kind="advance", to="completed", says="")


def refused_in_a_state_that_it_was_not_in(history: History) -> None:
    first(history, "advance", word="INVALID_STATUS_TRANSITION").says = "arrived"


def his_job_is_none_of_his(history: History) -> None:
    first(history, "advance", word="INVALID_STATUS_TRANSITION", to="completed").word = "JOB_NOT_FOUND"


def its_customer_may_not_cancel(history: History) -> None:
    created = first(history, "create")
    at = created.done + 1
    word = "INVALID_STATUS_TRANSITION"
    refusal(history, word, kind="cancel", user=created.user, job=created.job, says="", at=at, done=at)


def its_customer_is_told_that_it_is_not_his(history: History) -> None:
    first(history, "cancel", word="INVALID_STATUS_TRANSITION").word = "FORBIDDEN"


BROKEN: dict[Callable[[History], None], str] = {
    second_winner: "I1",
    told_too_early: "I1b",
    told_expired_of_a_live_offer: "I1b",
    busy_without_a_job: "I1c",
    busy_with_this_very_job: "I1c",
    no_such_offer_that_he_names: "I1c",
    no_such_offer_though_he_had_heard: "I1c",
    no_such_job_though_there_is: "I1c",
    suspended_after_he_was_let_in: "I1c",
    suspended_who_never_was: "I1c",
    off_who_is_on: "I1c",
    off_before_his_shift_was_ended: "I1c",
    shut_out_who_is_not: "I1c",
    not_approved_who_was_offered_jobs: "I1c",
    papers_in_a_world_without_papers: "I1c",
    two_jobs: "I2",
    forgotten_yes: "I3",
    no_offer: "I4",
    offered_while_busy: "I4",
    offered_while_off: "I4",
    accepted_offer_made_while_busy: "I4",
    unbalanced: "I5",
    below_the_floor: "I5",
    paid_twice: "I5",
    unpaid: "I5",
    nothing_booked: "I5",
    a_history_that_begins_late: "I6",
    a_head_without_its_event: "I6",
    lost_event: "I6",
    last_event_lost: "I6",
    event_out_of_thin_air: "I6",
    out_of_order: "I6",
    sent_out_of_order: "I6",
    accepted_suspended: "I7",
    kept_through_suspension: "I7",
    offered_suspended: "I7",
    never_told: "I7",
    heard_while_shut_out: "I7",
    answered_while_shut_out: "I7",
    stuck: "I9",
    answered_twice: "I10",
    made_twice: "I10",
    refused_as_reused: "I10",
    made_twice_beside_a_refusal: "I10",
    overheard: "I12",
    watched_by_a_loser: "I12",
    anothers_answer: "I13",
    anothers_frame: "I13",
    lost_cancel: "linearizable",
    may_not_move_on_what_he_may: "linearizable",
    refused_in_a_state_that_it_was_not_in: "linearizable",
    his_job_is_none_of_his: "linearizable",
    its_customer_may_not_cancel: "linearizable",
    its_customer_is_told_that_it_is_not_his: "linearizable",
}


@pytest.mark.parametrize("breach", BROKEN, ids=lambda breach: breach.__name__)
def test_each_breach_is_named(breach: Callable[[History], None]) -> None:
    for seed in range(5):
        history = Ideal(seed).history
        breach(history)
        assert BROKEN[breach] in {violation.invariant for violation in judge(history)}


def test_a_reused_key_is_no_breach_where_it_was_reused() -> None:
    history = Ideal(1).history
    again = deepcopy(first(history, "accept", word="ok"))
    again.body, again.word, again.answer, again.told_round = "another", "IDEMPOTENCY_KEY_REUSED", "", 0
    history.ops.append(again)
    assert judge(history) == []


def test_every_checker_has_a_breach_that_it_finds() -> None:
    assert set(BROKEN.values()) == set(CHECKERS) == set(by_invariant([]))


def test_a_flipped_answer_is_never_missed() -> None:
    """Every answer to every accept, one at a time, turned into what it was not."""
    flipped = 0
    for seed in range(40):
        ideal = Ideal(seed).history
        for index, op in enumerate(ideal.ops):
            if op.kind != "accept":
                continue
            history = deepcopy(ideal)
            lie = history.ops[index]
            lie.word, lie.told_round = ("accepted", 0) if op.word == "ok" else ("ok", op.round)
            flipped += 1
            assert judge(history), f"seed {seed}, {op}"
    assert flipped > 500


def test_unknown_calls_may_have_happened_or_not() -> None:
    offer = Call(0, 1, Did("offer", round=1))
    maybe = Call(2, NEVER, Did("accept", "p", 1, word="unknown"), known=False)
    had = Call(10, NEVER - 1, Did("read", "p", to="accepted"))
    assert linearizable([offer, maybe, had], State(), step)
    assert linearizable([offer, maybe], State(), step)
    assert not linearizable([offer, had], State(), step)


def test_a_kept_answer_may_be_told_again_after_everything() -> None:
    history = Ideal(3).history
    holder = {job.id: job.holder for job in history.final.jobs}
    # Of a job that went to somebody else afterwards: he would have to have it for a second request to be told yes.
    again = deepcopy(next(op for op in history.ops if op.told_round and op.user != holder[op.job]))
    again.at, again.done = history.final.at - 2 * S, history.final.at - S
    history.ops.append(again)
    assert judge(history) == []
    again.key = "another"
    assert "linearizable" in {violation.invariant for violation in judge(history)}


def test_real_time_is_respected() -> None:
    """A loser who was answered before anybody else had asked."""
    offer = Call(0, 1, Did("offer", round=1))
    lost, won = Call(2, 3, Did("accept", "a", 1, word="accepted")), Call(4, 5, Did("accept", "b", 1))
    assert not linearizable([offer, lost, won], State(), step)
    assert linearizable([offer, Call(2, 6, lost.what), won], State(), step)


def test_histories_survive_the_disk(tmp_path: Path) -> None:

    folder, history = tmp_path, Ideal(1).history
    write_lines(folder / "a.jsonl", history.ops)
    write_lines(folder / "b.jsonl", history.told)
    write_lines(folder / "faults.jsonl", [Fault(at=1, kind="kill", met=3)])
    (folder / "final.json").write_bytes(msgspec.json.encode(history.final))
    with (folder / "b.jsonl").open("ab") as torn:
        torn.write(b'{"type":"told","at":1')
    found = read(folder)
    assert (found.ops, found.told, found.final) == (history.ops, history.told, history.final)
    assert found.struck == 1 and found.accepts == history.accepts


def _told_late(told_at_s: int) -> History:
    """Suspended at 100 s; his phone on worker 0 hears of it at `told_at_s`, and its line lives on."""
    who = {"client": "p/phone", "user": "p", "socket": "s"}
    told = [
        Told(at=50 * S, **who, kind="welcome", name="worker 0"),
        Told(at=told_at_s * S, **who, kind="event", seq=1, name="provider.updated", digest="d"),
        Told(at=130 * S, **who, kind="event", seq=2, name="wallet.updated", digest="e"),
    ]
    ops = [
        Op(at=99 * S, done=100 * S, client="o", user="o", kind="suspend", key="k1", target="p", word="ok"),
        Op(at=140 * S, done=141 * S, client="o", user="o", kind="reinstate", key="k2", target="p", word="ok"),
    ]
    return History(ops=ops, told=told, final=Final(at=200 * S))


def _late(history: History) -> bool:
    return any(violation.invariant == "I7" for violation in CHECKERS["I7"](history, Counter()))


def test_a_worker_that_is_cut_off_is_late_and_no_later_than_that() -> None:
    assert not _late(_told_late(104)) and _late(_told_late(106))
    cut_off = _told_late(113)
    cut_off.silences = [(95 * S, 108 * S, "worker 0")]
    assert not _late(cut_off), "5 s after the cut was healed is soon enough"
    cut_off.silences = [(95 * S, 107 * S, "worker 0")]
    assert _late(cut_off)
    cut_off.silences = [(95 * S, 108 * S, "worker 1")]
    assert _late(cut_off), "another worker's silence excuses nobody"
    cut_off.silences = [(90 * S, 94 * S, "")]
    assert _late(cut_off), "nor one that was over"
    cut_off.silences = [(95 * S, 103 * S, ""), (107 * S, 109 * S, "worker 0")]
    assert not _late(cut_off), "one silence after the other"
    cut_off.silences = [(95 * S, 108 * S, "p/phone")]
    assert not _late(cut_off), "his own device's"
    cut_off.silences = [(95 * S, 108 * S, "another's phone")]
    assert _late(cut_off)


def test_what_he_heard_before_he_was_suspended_told_him_nothing() -> None:
    """That he is switched on is the same event."""
    assert _late(_told_late(98)) and not _late(_told_late(99))


def _looked(history: History) -> Counter[str]:
    looked: Counter[str] = Counter()
    judge(history, looked)
    return looked


def test_a_line_that_lived_to_the_end_has_outlived_the_bound() -> None:
    """A suspended provider hears of little: that his device was connected when all was over is a sign as good as a frame."""
    silent = _told_late(150)
    del silent.told[1:]
    assert not _late(silent) and not _looked(silent)["I7 told"]
    silent.final.applied = {"p/phone": 0}
    assert _late(silent) and _looked(silent)["I7 told"] == 1
    silent.final.at = 104 * S
    assert not _late(silent), "too early to say"


def test_a_refusal_is_of_the_time_since_it_was_first_asked() -> None:
    """Sent again by another door, it is given what was decided for the first."""
    history = Ideal(2).history
    back = first(history, "reinstate")
    told = first(history, "accept", word="PROVIDER_SUSPENDED")
    again = deepcopy(told)
    again.at, again.done = back.done + MS, back.done + 2 * MS
    history.ops.append(again)
    assert judge(history) == []
    again.key = "another"
    assert {violation.invariant for violation in judge(history)} == {"I1c"}


def test_everything_that_may_have_barred_him_is_thought_of() -> None:
    """Whose suspension was never answered may be suspended ever after; a reinstatement that was under way meanwhile ends nothing."""
    history = Ideal(2).history
    suspended, back = first(history, "suspend"), first(history, "reinstate")
    refusal(history, "PROVIDER_SUSPENDED")
    assert judge(history), "he was let in"
    back.at = suspended.done - 1
    assert "I1c" not in {violation.invariant for violation in judge(history)}, "before or after it, nobody knows"
    back.at = suspended.done + 20 * S
    unknown = deepcopy(suspended)
    unknown.key, unknown.word, unknown.done = "unknown", "unknown", NEVER
    history.ops.append(unknown)
    assert "I1c" not in {violation.invariant for violation in judge(history)}


def test_each_checker_says_how_often_it_looked() -> None:
    """And those that never did say so."""
    looked = _looked(Ideal(1).history)
    assert set(looked) == set(LOOKS)
    unseen = {"I1c PROVIDER_NOT_APPROVED", "I1c another word", "I10 asked again", "I12 position"}
    assert {name for name, count in looked.items() if not count} == unseen
    assert _looked(History(final=Final(at=0))) == dict.fromkeys(LOOKS, 0)


@pytest.mark.parametrize("spoil", [offered_while_busy, accepted_offer_made_while_busy])
def test_an_offer_within_the_error_of_the_judges_clock_is_no_breach(spoil: Callable[[History], None]) -> None:
    """Its clock was set back by 0.4 s between an offer and the accept of it: then the offer is the later one."""
    history = Ideal(1).history
    spoil(history)
    assert "I4" in {violation.invariant for violation in judge(history)}
    history.clock_error = 400 * MS
    assert "I4" not in {violation.invariant for violation in judge(history)}


def _held_twice(overlap: int) -> History:
    """Of one provider: a job that ended at 10 s, and another from `overlap` ns before that, by the judge's clock."""
    rows = [("a", 5 * S, 10 * S), ("b", 10 * S - overlap, 20 * S)]
    steps = [
        Step(job=job, version=version, was=was, to=to, round=1, actor="p", at=at)
        for job, since, until in rows
        for version, was, to, at in ((1, "offered", "accepted", since), (2, "accepted", "cancelled", until))
    ]
    return History(final=Final(at=30 * S, steps=steps))


def test_two_jobs_at_once_by_more_than_the_error_of_the_judges_clock() -> None:
    def found(history: History) -> bool:
        return any(violation.invariant == "I2" for violation in judge(history))

    history = _held_twice(300 * MS)
    assert found(history)
    history.clock_error = 400 * MS
    assert not found(history)
    history = _held_twice(500 * MS)
    history.clock_error = 400 * MS
    assert found(history)


def test_an_order_that_was_heard_before_its_customer_was_shut_out_is_no_breach() -> None:
    """Its answer was lost; sent again, it was turned away at the door, where nobody looks at its key."""
    history = Ideal(1).history
    made = first(history, "create", word="ok")
    made.word, made.job, made.answer, made.done = "FORBIDDEN", "", "", made.done + S
    assert "I10" in {violation.invariant for violation in judge(history)}
    history.ops.append(
        Op(at=made.at, done=made.at + 1, client="o", user="o", kind="block", key="b", target=made.user, word="ok")
    )
    assert "I10" not in {violation.invariant for violation in judge(history)}


def test_a_snapshot_of_the_moment_of_the_suspension_may_have_told_him() -> None:
    history = _told_late(120)
    assert "I7" in {violation.invariant for violation in judge(history)}
    snapshot = Told(at=99 * S + 500 * MS, client="p/phone", user="p", socket="s", kind="snapshot", seq=0)
    history.told.insert(1, snapshot)
    looked: Counter[str] = Counter()
    assert "I7" not in {violation.invariant for violation in judge(history, looked)}
    assert looked["I7 told"] == 0
