"""The judges of a history. Each knows one invariant of docs/reliability.md and names what breaks it; none repairs or guesses.

`judge(history)` runs them all. A checker sees what clients were told and what the judge's tables hold at the end, never the
server's memory, so the same ones serve the simulator and real processes. Each also counts how often it had something to judge: one
that found nothing wrong because it never looked proves nothing.
"""

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise

from bench.faults import job_register, refusals, standing
from bench.faults.history import NEVER, History, Offer, Op, Step, Told
from bench.faults.linearizable import Undecided, linearizable
from bench.faults.spans import (
    ACTIVE,
    OPEN,
    Span,
    blocked,
    by,
    holdings,
    meets,
    perhaps_blocked,
    suspended,
    switched_off,
)

S = 1_000_000_000
OFFER_AFTER_SUSPENSION_NS = 1 * S
TOLD_OF_SUSPENSION_NS = 5 * S
"""reliability.md §2, I7."""
KEY_REUSED = "IDEMPOTENCY_KEY_REUSED"
PAY = {"earning": "pay", "cash_fee": "pay", "tip": "tip"}
"""Kinds of transactions of which a job has at most one: either of its two ways of being paid, and a tip."""


@dataclass(frozen=True, slots=True)
class Violation:
    """What was promised and did not hold."""

    invariant: str
    text: str
    jobs: tuple[str, ...] = ()
    users: tuple[str, ...] = ()


Looked = Counter[str]
"""Name of LOOKS → how many cases were judged."""
Checker = Callable[[History, Looked], Iterator[Violation]]


def single_winner(history: History, looked: Looked) -> Iterator[Violation]:
    """I1: at most one provider is ever told that he has (job, round); a later one only after a committed release."""
    told: dict[tuple[str, int], set[str]] = defaultdict(set)
    for op in _accepted(history):
        looked["I1"] += 1
        told[op.job, op.told_round].add(op.user)
    for (job, round), users in told.items():
        if len(users) > 1:
            yield Violation("I1", f"job {job} round {round} was given to {len(users)}", (job,), tuple(sorted(users)))
    rounds = Counter((row.job, row.round) for row in history.final.steps if row.to == "accepted")
    for (job, round), count in rounds.items():
        if count > 1:
            yield Violation("I1", f"job {job} round {round} was accepted {count} times in its history", (job,))
    for job, rows in by(history.final.steps, lambda row: row.job).items():
        rows.sort(key=lambda row: row.version)
        for before, after in pairwise(rows):
            if after.version != before.version + 1 or after.was != before.to or after.round < before.round:
                yield Violation("I1", f"job {job}: version {after.version} does not follow {before.version}", (job,))
            if after.to == "accepted" and before.to in ACTIVE:
                yield Violation("I1", f"job {job} was accepted again without a release", (job,), (after.actor,))


def no_false_loss(history: History, looked: Looked) -> Iterator[Violation]:
    """I1b: who was told that a job is gone was told so after it had gone."""
    steps = by(history.final.steps, lambda row: row.job)
    offers = by(history.final.offers, lambda offer: (offer.job, offer.user))
    for op in history.ops:
        if op.kind != "accept" or op.word not in ("accepted", "cancelled", "expired"):
            continue
        looked["I1b"] += 1
        latest = op.done + history.clock_error
        rows = [row for row in steps.get(op.job, ()) if row.at <= latest]
        gone = any(
            row.to == op.word or row.round > op.round > 0 or (op.word == "expired" and row.to == "cancelled")
            for row in rows
        )
        if op.word == "expired" and not gone:
            # Of an offer that he named, of another round or none that he ever had, it is the word too.
            gone = not any(_stood(offer, op, rows, history.clock_error) for offer in offers.get((op.job, op.user), ()))
        if not gone:
            what = f"told that {op.job} is {op.word} at {op.done}, when round {op.round} was still open"
            yield Violation("I1b", what, (op.job,), (op.user,))


def _stood(offer: Offer, op: Op, rows: Iterable[Step], slack: int) -> bool:
    """Whether he asked by this offer, and it was good all the time. `rows`: of the job's history, until he was answered."""
    if op.offer not in ("", offer.id) or op.round not in (0, offer.round):
        return False
    if not (op.offer or op.round) and offer.at + slack >= op.at:
        return False  # made while he was asking: by then he may have had his answer
    over = min([offer.expires, offer.responded or NEVER, *(row.at for row in rows if row.round > offer.round)])
    return over > op.done + slack


def no_false_refusal(history: History, looked: Looked) -> Iterator[Violation]:
    """I1c: who was told that he is busy, switched off, suspended, shut out or not approved, or that there is no such job or offer for him, was
    told what can have been so while he asked.
    """
    for claim in refusals.claims(history):
        op = claim.op
        looked["I1c"] += 1
        looked[f"I1c {op.word}" if op.word in refusals.WORDS else "I1c another word"] += 1
        if not claim.so:
            text = f"{op.kind} of {op.job or op.user} was refused with {op.word} at {op.done}, which was not so"
            yield Violation("I1c", text, (op.job,) if op.job else (), (op.user,))


def one_job_each(history: History, looked: Looked) -> Iterator[Violation]:
    """I2: at every commit a provider has at most one active job."""
    for user, held in by(holdings(history.final.steps), lambda one: one.user).items():
        held.sort(key=lambda one: one.since)
        looked["I2"] += len(held)
        for before, after in pairwise(held):
            # As the judge's clock told it, which may have been set back in between.
            if min(before.until, after.until) > after.since + history.clock_error:
                text = f"provider {user} had {before.job} and {after.job} at once"
                yield Violation("I2", text, (before.job, after.job), (user,))
    active = Counter(job.holder for job in history.final.jobs if job.status in ACTIVE)
    for user, count in active.items():
        if count > 1:
            yield Violation("I2", f"provider {user} has {count} active jobs at the end", (), (user,))


def durable(history: History, looked: Looked) -> Iterator[Violation]:
    """I3: what was told as accepted, moved on, cancelled or made is in the history, and the job ends where its history ends."""
    steps = by(history.final.steps, lambda row: row.job)
    jobs = {job.id: job for job in history.final.jobs}
    for op in history.ops:
        if op.word != "ok" or op.kind not in ("accept", "advance", "cancel", "create"):
            continue
        looked["I3"] += 1
        rows = steps.get(op.job, [])
        kept = any(_says(row, op) for row in rows)
        if not kept:
            yield Violation(
                "I3", f"{op.kind} of {op.job} was answered with yes and is not there", (op.job,), (op.user,)
            )
    for job, rows in steps.items():
        last = max(rows, key=lambda row: row.version)
        if job not in jobs or jobs[job].status != last.to or jobs[job].version != last.version:
            yield Violation(
                "I3", f"job {job} is not where its history ends ({last.to}, version {last.version})", (job,)
            )


def _says(row: Step, op: Op) -> bool:
    match op.kind:
        case "accept":
            return row.to == "accepted" and row.actor == op.user and row.round == (op.told_round or row.round)
        case "advance":
            return row.to == op.to and row.actor == op.user
        case "cancel":
            return row.to in ("cancelled", "offered") and row.actor == op.user
    return row.was == ""


def eligible(history: History, looked: Looked) -> Iterator[Violation]:
    """I4: nobody has a job without an offer of that round; offers are made to people who are free, switched on, and may work."""
    offers = {(offer.job, offer.round, offer.user): offer for offer in history.final.offers}
    held = by(holdings(history.final.steps), lambda one: one.user)
    barred, off = suspended(history), switched_off(history)
    looked["I4"] += len(history.final.offers)
    for one in holdings(history.final.steps):
        offer = offers.get((one.job, one.round, one.user))
        if offer is None or offer.status != "accepted":
            text = f"{one.user} has job {one.job} round {one.round} without an accepted offer"
            yield Violation("I4", text, (one.job,), (one.user,))
    for offer in history.final.offers:
        if offer.status == "accepted" and offer.expires <= offer.responded:
            continue  # from the open board: made in the accept itself
        for one in held.get(offer.user, ()):
            if one.since + history.clock_error < offer.at < one.until - history.clock_error:
                text = f"offer {offer.id} was made to {offer.user} while he had job {one.job}"
                yield Violation("I4", text, (offer.job, one.job), (offer.user,))
        if _within(history, barred.get(offer.user, ()), offer.at):
            text = f"offer {offer.id} was made to {offer.user}, who was suspended"
            yield Violation("I4", text, (offer.job,), (offer.user,))
        if _within(history, off.get(offer.user, ()), offer.at):
            yield Violation(
                "I4", f"offer {offer.id} was made to {offer.user}, who was off", (offer.job,), (offer.user,)
            )
    for row in history.final.steps:
        if row.to == "accepted" and _within(history, off.get(row.actor, ()), row.at):
            yield Violation("I4", f"{row.actor} accepted {row.job}, switched off", (row.job,), (row.actor,))


def _within(history: History, spans: Iterable[Span], at: int) -> bool:
    return any(span.since + history.clock_error < at < span.until - history.clock_error for span in spans)


def books(history: History, looked: Looked) -> Iterator[Violation]:
    """I5: transactions sum to nothing, balances are their entries, nobody is below his floor, nothing is paid twice."""
    sums: dict[tuple[str, str], int] = defaultdict(int)
    held: dict[tuple[str, str], int] = defaultdict(int)
    once: dict[tuple[str, str], set[str]] = defaultdict(set)
    for entry in history.final.entries:
        sums[entry.transaction, entry.currency] += entry.amount
        held[entry.account, entry.currency] += entry.amount
        if entry.job and entry.kind in PAY:
            once[entry.job, PAY[entry.kind]].add(entry.transaction)
    looked["I5"] += len(sums)
    for (transaction, currency), total in sums.items():
        if total:
            yield Violation("I5", f"transaction {transaction} sums to {total} {currency}")
    for (job, kind), transactions in once.items():
        if len(transactions) > 1:
            yield Violation("I5", f"job {job} has {len(transactions)} transactions of kind {kind}", (job,))
    if history.final.paid:
        for row in history.final.jobs:
            if (row.status == "completed") != ((row.id, "pay") in once):
                yield Violation("I5", f"job {row.id} is {row.status}, and its pay says otherwise", (row.id,))
    for balance in history.final.balances:
        total = held.pop((balance.account, balance.currency), 0)
        if total != balance.amount:
            yield Violation("I5", f"account {balance.account} holds {balance.amount}, its entries sum to {total}")
        if balance.floor is not None and balance.amount < balance.floor:
            yield Violation("I5", f"account {balance.account} holds {balance.amount}, below {balance.floor}")
    for (account, currency), total in held.items():
        if total:
            yield Violation("I5", f"account {account} has entries of {total} {currency} and no balance")
    for line in history.final.books:
        yield Violation("I5", f"reconcile: {line}")


def inbox_prefix(history: History, looked: Looked) -> Iterator[Violation]:
    """I6: each device applies its user's events without gap, in order and as they were committed, or starts from a snapshot that shows what
    they amount to. Only an offer of a job that was open no more by then may be missing: it is withdrawn in a moment.
    """
    committed = {user: dict(rows) for user, rows in history.final.events.items()}
    closed = _closed(history)
    newest = {user: max(rows, default=0) for user, rows in committed.items()}
    for client, frames in by(history.told, lambda told: told.client).items():
        at: int | None = None
        for told in frames:
            if told.kind == "snapshot":
                if told.seq > newest.get(told.user, 0):
                    yield Violation("I6", f"{client}: a snapshot of {told.seq}, which never was", (), (told.user,))
                if at is not None and told.seq < at:
                    yield Violation("I6", f"{client}: a snapshot of {told.seq} after event {at}", (), (told.user,))
                at = told.seq
                looked["I6 snapshot"] += 1
                missing = standing.left_out(told.digest, _amount(history, told))
                if missing is None or any(closed[offer] > told.at + history.clock_error for offer in missing):
                    text = f"{client}: a snapshot of {told.seq} shows something else than the events up to it"
                    yield Violation("I6", text, tuple(told.jobs), (told.user,))
            elif told.kind == "gap":
                yield Violation("I6", f"{client} was sent event {told.seq} after {at}", (told.job,), (told.user,))
            elif told.kind == "event":
                looked["I6"] += 1
                if at is None or told.seq != at + 1:
                    yield Violation("I6", f"{client}: event {told.seq} after {at}", (told.job,), (told.user,))
                at = told.seq
                known = committed.get(told.user, {}).get(told.seq)
                if known is None:
                    text = f"{client} was told event {told.seq} ({told.name}), which was never committed"
                    yield Violation("I6", text, (told.job,), (told.user,))
                elif known != told.digest:
                    text = f"{client} was told another event {told.seq} ({told.name}) than was committed"
                    yield Violation("I6", text, (told.job,), (told.user,))
        end = history.final.applied.get(client)
        looked["I6 at the end"] += end is not None
        if end is not None and end != newest.get(frames[0].user, 0):
            text = f"{client} stands at {end} at the end, its user's history at {newest.get(frames[0].user, 0)}"
            yield Violation("I6", text, (), (frames[0].user,))
    for user, rows in history.final.events.items():
        # Nothing is forgotten in a run, so a history begins at its beginning.
        for (before, _), (after, _) in pairwise([(0, ""), *rows]):
            if after != before + 1:
                yield Violation("I6", f"the history of {user} goes from {before} to {after}", (), (user,))
    for user, head in history.final.heads.items():
        if head != newest.get(user, 0):
            text = f"{user} was given numbers up to {head}, and his history ends at {newest.get(user, 0)}"
            yield Violation("I6", text, (), (user,))


def _closed(history: History) -> Mapping[str, int]:
    """When the job of each offer was open no more; NEVER: it stayed open."""
    ends = by((row for row in history.final.steps if row.to not in OPEN), lambda row: row.job)
    found: dict[str, int] = defaultdict(lambda: NEVER)
    for offer in history.final.offers:
        found[offer.id] = min((row.at for row in ends.get(offer.job, ()) if row.round >= offer.round), default=NEVER)
    return found


def _amount(history: History, told: Told) -> str:
    """What the events up to a snapshot's number amount to."""
    held = history.final.standings.get(told.user, [])
    return held[told.seq - 1] if 0 < told.seq <= len(held) else standing.Standing().digest


def revoked(history: History, looked: Looked) -> Iterator[Violation]:
    """I7: after a suspension is committed he has no job and accepts none, hears of no new offer a second later, and has been told
    within 5 s. A user who is shut out hears nothing and gets nothing done 5 s later.
    """
    yield from _shut_out(history, looked)
    held = by(holdings(history.final.steps), lambda one: one.user)
    accepts = by((row for row in history.final.steps if row.to == "accepted"), lambda row: row.actor)
    frames = by(history.told, lambda told: told.user)
    made = {offer.id: offer.at for offer in history.final.offers}
    for user, spans in suspended(history).items():
        for span in spans:
            looked["I7"] += 1
            _, since, until = span
            for one in held.get(user, ()):
                if one.since < since < one.until - history.clock_error:
                    text = f"{user} kept {one.job} through the suspension of {since}"
                    yield Violation("I7", text, (one.job,), (user,))
            for row in accepts.get(user, ()):
                if since + history.clock_error < row.at < until - history.clock_error:
                    text = f"{user} accepted {row.job} at {row.at}, suspended since {since}"
                    yield Violation("I7", text, (row.job,), (user,))
            for told in frames.get(user, ()):
                late = since + OFFER_AFTER_SUSPENSION_NS < told.at < until
                # An offer that is history by now may be told late to a phone that was away; it is withdrawn by the next event.
                fresh = made.get(told.offer, 0) > since + history.clock_error
                if late and told.name == "offer.created" and fresh:
                    yield Violation("I7", f"{user} heard of offer {told.offer}, suspended since {since}", (), (user,))
            for client, heard in by(frames.get(user, ()), lambda told: told.client).items():
                in_time = _told_in_time(history, client, heard, span)
                looked["I7 told"] += in_time is not None
                if in_time is False:
                    bound = f"{TOLD_OF_SUSPENSION_NS / S:g} s"
                    text = f"{client} was not told of the suspension of {since} within {bound}"
                    yield Violation("I7", text, (), (user,))


def _shut_out(history: History, looked: Looked) -> Iterator[Violation]:
    """Where a worker could hear nothing of it, until 5 s after it could."""
    frames, done = by(history.told, lambda told: told.user), by(history.ops, lambda op: op.user)
    everywhere = {where for _, _, where in history.silences}
    bound = TOLD_OF_SUSPENSION_NS
    for user, spans in blocked(history).items():
        for _, since, until in spans:
            for client, heard in by(frames.get(user, ()), lambda told: told.client).items():
                where = {told.socket: told.name for told in heard if told.kind == "welcome"}
                for told in heard:
                    if since + bound < told.at < until:
                        here = {"", where.get(told.socket, ""), client}
                        if told.at > _spoken_by(history, here, since + bound, bound):
                            text = f"{client} heard {told.kind} {told.seq} at {told.at}, shut out since {since}"
                            yield Violation("I7", text, (), (user,))
            latest = _spoken_by(history, everywhere, since + bound, bound)
            looked["I7 shut out"] += latest < until
            for op in done.get(user, ()):
                if latest < op.at and op.done < until and op.word == "ok":
                    text = f"{op.kind} of {user} was answered with yes at {op.done}, shut out since {since}"
                    yield Violation("I7", text, (op.job,) if op.job else (), (user,))


def _told_in_time(history: History, client: str, frames: list[Told], span: Span) -> bool | None:
    """Whether a device that had a line from the suspension on, and five seconds longer, has heard of it by then. None: it had not."""
    bound = TOLD_OF_SUSPENSION_NS
    here = bisect_left([told.at for told in frames], span.since)
    if here == 0:
        return None
    socket = frames[here - 1].socket
    latest = _spoken_by(history, {"", _worker_of(frames, socket), client}, span.since + bound, bound)
    on_it = [told.at for told in frames if told.socket == socket]
    if client in history.final.applied and frames[-1].socket == socket:
        on_it.append(history.final.at)  # it was connected when all was over
    if span.until < latest or on_it[-1] <= latest:
        return None  # taken back before, or no sign that this line outlived the bound
    heard = [told for told in frames if span.asked <= told.at <= latest]
    if any(told.name == "provider.updated" or (told.kind == "snapshot" and told.at > span.since) for told in heard):
        return True
    # A snapshot between the office's request and its answer may hold the suspension or not: nobody can say.
    return None if any(told.kind == "snapshot" for told in heard) else False


def _worker_of(frames: list[Told], socket: str) -> str:
    return next((told.name for told in frames if told.kind == "welcome" and told.socket == socket), "")


def _spoken_by(history: History, concerned: set[str], latest: int, bound: int) -> int:
    """`latest`, or `bound` after the end of the last silence that lasted into it: a worker that is cut off from both stores, or from
    its clients, can tell nobody anything. What it may decide meanwhile is judged all the same.
    """
    for since, until, where in sorted(history.silences):
        if where in concerned and since < latest and until > latest - bound:
            latest = max(latest, until + bound)
    return latest


def unstuck(history: History, looked: Looked) -> Iterator[Violation]:
    """I9: when everything has healed, every job goes on by itself."""
    looked["I9"] += len(history.final.jobs)
    for job in history.final.stuck:
        yield Violation("I9", f"job {job} is stuck", (job.split()[0],))


def once_only(history: History, looked: Looked) -> Iterator[Violation]:
    """I10: the same key is answered alike as often as it is sent, another body is refused, and the effect is there once."""
    for (user, key), ops in by(history.ops, lambda op: (op.user, op.key)).items():
        looked["I10"] += 1
        looked["I10 asked again"] += len(ops) > 1
        good = [op for op in ops if op.word == "ok"]
        for kind, same in by(good, lambda op: (op.kind, op.body)).items():
            answers = {op.answer for op in same if op.answer}
            if len(answers) > 1:
                text = f"key {key} of {user} ({kind[0]}) was answered in {len(answers)} ways"
                yield Violation("I10", text, tuple({op.job for op in same}), (user,))
        if len({op.body for op in good}) > 1:
            yield Violation("I10", f"key {key} of {user} was good for two different requests", (), (user,))
        if any(op.word == KEY_REUSED for op in ops) and len({(op.kind, op.body) for op in ops}) == 1:
            text = f"key {key} of {user} was refused as reused, and was only ever sent with one body"
            yield Violation("I10", text, tuple({op.job for op in ops}), (user,))
    made = by(history.final.jobs, lambda job: job.customer)
    shut_out = perhaps_blocked(history)
    for user, creates in by((op for op in history.ops if op.kind == "create"), lambda op: op.user).items():
        good = [op for op in creates if op.word == "ok"]
        # Who is shut out is told so before his key is looked at: an earlier sending may have been heard.
        barred = {op.key for op in creates if op.word == "FORBIDDEN" and meets(shut_out.get(user, ()), op)}
        unknown = (barred | {op.key for op in creates if not op.final}) - {op.key for op in good}
        extra = {job.id for job in made.get(user, ())} - {op.job for op in good}
        if len(extra) > len(unknown):
            text = (
                f"{user} has {len(extra)} jobs of which he was never told, and {len(unknown)} orders without an answer"
            )
            yield Violation("I10", text, tuple(extra), (user,))


def isolated(history: History, looked: Looked) -> Iterator[Violation]:
    """I12: whoever is told of a job is its customer, has or had it, or was offered it; of an offer: it was made to him; where a
    provider is: he is the job's customer.
    """
    customers = {job.id: job.customer for job in history.final.jobs}
    about: dict[str, set[str]] = defaultdict(set)
    for job in history.final.jobs:
        about[job.id].add(job.customer)
    for one in holdings(history.final.steps):
        about[one.job].add(one.user)
    owner = {}
    for offer in history.final.offers:
        about[offer.job].add(offer.user)
        owner[offer.id] = offer.user
    for told in history.told:
        for job in (*([told.job] if told.job else ()), *told.jobs):
            looked["I12"] += 1
            if told.user not in about.get(job, ()):
                yield Violation("I12", f"{told.client} was told of job {job}, which is not his", (job,), (told.user,))
        looked["I12 position"] += told.kind == "position"
        if told.kind == "position" and customers.get(told.job) != told.user:
            text = f"{told.client} was told where the provider of {told.job} is, and is not its customer"
            yield Violation("I12", text, (told.job,), (told.user,))
        if told.offer and owner.get(told.offer) != told.user:
            yield Violation("I12", f"{told.client} was told of offer {told.offer}, which is not his", (), (told.user,))


def own_frames(history: History, looked: Looked) -> Iterator[Violation]:
    """I13: no line carries another user's event: what it was told under a number is what that user has under it, and nobody else; nor
    an answer to what another device had asked.
    """
    whose: dict[str, set[str]] = defaultdict(set)
    for user, rows in history.final.events.items():
        for _, found in rows:
            whose[found].add(user)
    for told in history.told:
        if told.kind == "stray":
            text = f"{told.client} was given an answer to {told.name}, which it never asked"
            yield Violation("I13", text, (), (told.user,))
        looked["I13"] += told.kind == "event"
        if told.kind == "event" and told.digest in whose and told.user not in whose[told.digest]:
            text = f"{told.client} was told event {told.seq} ({told.name}) of somebody else"
            yield Violation("I13", text, (told.job,), (told.user,))


def orderly(history: History, looked: Looked) -> Iterator[Violation]:
    """Each job is linearizable: some order of all calls, respecting real time, explains every answer."""
    for job, calls in job_register.calls_of(history).items():
        looked["linearizable"] += 1
        looked["linearizable refused change"] += sum(
            call.known and call.what.kind in ("advance", "cancel") and call.what.word != "ok" for call in calls
        )
        try:
            fine = linearizable(calls, job_register.State(), job_register.step)
        except Undecided as gave_up:
            yield Violation("linearizable", f"job {job}: {gave_up}", (job,))
            continue
        if not fine:
            yield Violation("linearizable", f"no order explains the {len(calls)} calls on job {job}", (job,))


CHECKERS: Mapping[str, Checker] = {
    "I1": single_winner,
    "I1b": no_false_loss,
    "I1c": no_false_refusal,
    "I2": one_job_each,
    "I3": durable,
    "I4": eligible,
    "I5": books,
    "I6": inbox_prefix,
    "I7": revoked,
    "I9": unstuck,
    "I10": once_only,
    "I12": isolated,
    "I13": own_frames,
    "linearizable": orderly,
}


LOOKS = (
    *CHECKERS,
    *(f"I1c {word}" for word in sorted(refusals.WORDS)),
    "I1c another word",
    "I6 snapshot",
    "I6 at the end",
    "I7 told",
    "I7 shut out",
    "I10 asked again",
    "I12 position",
    "linearizable refused change",
)
"""What is counted: what each checker judged, and of what it seldom meets each kind by itself."""


def judge(history: History, looked: Looked | None = None) -> list[Violation]:
    """All that is wrong with a history, by invariant. `looked`: counts how often there was something to judge."""
    counts: Looked = Counter() if looked is None else looked
    found = [violation for check in CHECKERS.values() for violation in check(history, counts)]
    counts.update(dict.fromkeys(LOOKS, 0))  # those that never looked say so
    return found


def by_invariant(violations: Iterable[Violation]) -> dict[str, int]:
    """How many of each; the checkers that found nothing say 0, so that a reader sees that they ran."""
    counts = Counter(violation.invariant for violation in violations)
    return {name: counts[name] for name in CHECKERS}


def _accepted(history: History) -> Iterator[Op]:
    return (op for op in history.ops if op.kind == "accept" and op.word == "ok")
