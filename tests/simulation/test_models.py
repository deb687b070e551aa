"""The models beside the real stores: the same histories, the same answers. A model that drifts, or is missing, fails here."""

import asyncio
import random
from collections.abc import Iterator
from contextlib import AsyncExitStack

import asyncpg
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bench.simulation.judge import OUTSIDE, QUERIES
from dispatch.kit.postgres import Postgres
from tests.machines.stage import MACHINE
from tests.simulation.plays import ACTS, EVERY, LIKELY, Act, Play
from tests.simulation.twins import Judges, as_bag, modelled

acts = st.tuples(st.sampled_from([*ACTS, *LIKELY, *LIKELY]), st.integers(0, 7), st.integers(0, 3), st.integers(0, 12))


def test_rows_without_an_order_are_equal_whatever_the_order_of_their_columns() -> None:
    """With the columns in their order, «offered» would come before a later id in one list and after it in the other."""
    real = [{"job": "1", "status": "pending"}, {"job": "2", "status": "offered"}]
    assert as_bag([{"status": "offered", "job": "2"}, {"status": "pending", "job": "1"}]) == as_bag(real)


def test_every_statement_of_the_simulated_slices_has_a_model_or_is_named_as_outside() -> None:
    """A new statement of these slices needs a model: bench/simulation/judge. Of accounts only the request ids are simulated."""
    written = {(room, name) for room, queries in QUERIES.items() if room != "accounts" for name, _ in queries.items()}
    outside = {(room, name) for room, names in OUTSIDE.items() for name in names}
    assert written - modelled() - outside == set(), "statements without a model"
    assert outside - written == set() and outside & modelled() == set(), "named as outside, and they are not"


class Courtroom:
    """The judges, and a runner that they live in."""

    def __init__(self, database_url: str) -> None:
        self.runner = asyncio.Runner()
        self._stack = AsyncExitStack()
        self.judges: Judges = self.runner.run(self._open(database_url))

    async def _open(self, url: str) -> Judges:
        pg = await self._stack.enter_async_context(Postgres.open(url, size=2))
        owner = await asyncpg.connect(url, server_settings={"search_path": "dispatch"})
        self._stack.push_async_callback(owner.close)
        return Judges(pg, owner)

    def play(self, history: list[tuple[Act, int, int, int]], seed: int) -> None:
        self.runner.run(self._play(history, seed))

    async def _play(self, history: list[tuple[Act, int, int, int]], seed: int) -> None:
        play = Play(self.judges, random.Random(seed))
        await play.begin()
        for act, who, which, how in history:
            await act(play, who, which, how)
        await self.judges.same_tables()

    def close(self) -> None:
        self.runner.run(self._stack.aclose())
        self.runner.close()


@pytest.fixture
def court(database_url: str) -> Iterator[Courtroom]:
    room = Courtroom(database_url)
    yield room
    room.close()


def test_the_model_of_postgres_answers_as_postgres(court: Courtroom) -> None:
    """First a history in which every modelled statement occurs, then whatever comes."""
    court.play(EVERY, 1)
    assert modelled() - court.judges.asked == set(), "statements that were never compared"

    @hypothesis_settings(MACHINE, max_examples=30)
    @given(st.lists(acts, min_size=10, max_size=45), st.integers(0, 2**32))
    def histories(history: list[tuple[Act, int, int, int]], seed: int) -> None:
        court.play([(Play.create, 0, 0, seed % 2), *history], seed)

    histories()
