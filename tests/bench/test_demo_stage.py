"""Around the server of a run: its people's file, its processes' time."""

import os
from pathlib import Path

from bench.demo.stage import Person, cpu_s, descendants, read_tokens


def test_tokens_are_sorted_by_role(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text("provider\tp1\tt1\ncustomer\tc1\tt2\nprovider\tp2\tt3\nadmin\ta1\tt4\n", encoding="utf-8")
    assert read_tokens(file) == ((Person("p1", "t1"), Person("p2", "t3")), (Person("c1", "t2"),))


def test_a_process_counts_with_its_children_and_theirs_but_not_with_strangers() -> None:
    parents = {2: 1, 3: 2, 4: 3, 5: 1, 6: 4}
    assert descendants(2, parents) == {2, 3, 4, 6}
    assert descendants(5, parents) == {5}


def test_our_own_time_is_positive_and_grows() -> None:
    before = cpu_s(os.getpid())
    assert before is None or before > 0
    sum(number * number for number in range(1_000_000))
    after = cpu_s(os.getpid())
    assert (before is None) == (after is None)
    if before is not None and after is not None:
        assert after >= before
