"""The judges are judged: a history of an ideal server passes, and every way of breaking a promise is named by the invariant it breaks."""

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
    Fault,
    Final,
    History,
    Op,
    Step,
    Told,
    read,
    write_lines,
)
from bench.faults.job_register import Did, State, step
from bench.faults.linearizable import Call, linearizable
from bench.faults.standing import Standing
from tests.bench.breaches import BROKEN, accepted_offer_made_while_busy, first, offered_while_busy, refusal
from tests.bench.ideal import MS, Ideal


@settings(max_examples=100)
@given(st.integers(0, 2**32))
def test_an_ideal_history_passes(seed: int) -> None:
    assert judge(Ideal(seed).history) == []


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
    snapshot = Told(
        at=99 * S + 500 * MS, client="p/phone", user="p", socket="s", kind="snapshot", seq=0, digest=Standing().digest
    )
    history.told.insert(1, snapshot)
    looked: Counter[str] = Counter()
    assert "I7" not in {violation.invariant for violation in judge(history, looked)}
    assert looked["I7 told"] == 0


def test_a_snapshot_may_leave_out_an_offer_of_a_job_that_somebody_else_has() -> None:
    """Its holder hears that it is withdrawn in a moment."""
    history = Ideal(4).history
    told = [told for told in history.told if told.kind == "snapshot"][-1]
    offer = next(one for one in history.final.offers if one.status == "withdrawn")
    whole = history.final.standings[told.user][told.seq - 1] = f"{told.digest.rsplit(' ', 1)[0]} {offer.id}=content"
    told.digest = whole.rsplit(" ", 1)[0]
    assert judge(history) == []
    for row in history.final.steps:
        if row.job == offer.job and row.to not in ("pending", "offered"):
            row.round = offer.round - 1
    assert "I6" in {violation.invariant for violation in judge(history)}
