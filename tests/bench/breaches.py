"""Every way of breaking a promise that the judges know, done by hand to a history that keeps them all."""

from collections.abc import Callable
from copy import deepcopy

from bench.faults.checkers import S
from bench.faults.history import (
    History,
    Offer,
    Op,
    Step,
    Told,
)
from bench.faults.standing import Standing
from tests.bench.ideal import MS


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


def snapshot_left_empty(history: History) -> None:
    [told for told in history.told if told.kind == "snapshot"][-1].digest = Standing().digest


def stale_snapshot(history: History) -> None:
    """It says what was so one event ago."""
    told = [told for told in history.told if told.kind == "snapshot"][-1]
    told.digest = history.final.standings[told.user][told.seq - 2]


def snapshot_without_an_offer(history: History) -> None:
    """Of a job that stood open."""
    told = [told for told in history.told if told.kind == "snapshot"][-1]
    told.digest = told.digest.rsplit(" ", 1)[0]


def snapshot_with_another_offer(history: History) -> None:
    told = [told for told in history.told if told.kind == "snapshot"][-1]
    told.digest += "different"


def snapshot_of_another_provider(history: History) -> None:
    told = [told for told in history.told if told.kind == "snapshot"][-1]
    told.digest = told.digest.replace("provider", "another")


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
    snapshot_left_empty: "I6",
    stale_snapshot: "I6",
    snapshot_without_an_offer: "I6",
    snapshot_with_another_offer: "I6",
    snapshot_of_another_provider: "I6",
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
