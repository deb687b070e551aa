"""One person, two devices, two workers, and everything that may happen to a line: what is applied is a gap-free prefix. I6."""

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field

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

from dispatch.inbox import append, pending
from dispatch.kit.clock import SystemClock
from protocol.client import Client
from protocol.frames import Event, Snapshot
from protocol.session import RESUME_EVENTS_MAX, ClientSession
from tests.machines.stage import MACHINE, Stage, stage_of
from tests.support.server import WITHIN_S

which = st.sampled_from(["a", "b"])
worker = st.integers(0, 1)


@dataclass
class Device:
    """An installed app: it keeps its session and its attempt over everything, and writes down what it applies."""

    name: str
    session: ClientSession = field(default_factory=ClientSession)
    attempt: int = 0
    seq: int = 0
    applied: list[Event] = field(default_factory=list)
    """Since the last snapshot, which covers everything up to `base`."""
    base: int = 0
    jumps: list[tuple[int, int]] = field(default_factory=list)
    """(what it had, what the snapshot covers) of each snapshot."""
    client: Client | None = None
    worker: int = 0
    line: AsyncExitStack = field(default_factory=AsyncExitStack)

    def event(self, event: Event) -> None:
        self.applied.append(event)
        self.seq = event.seq

    def snapshot(self, snapshot: Snapshot) -> None:
        self.jumps.append((self.seq, snapshot.seq))
        self.base = self.seq = snapshot.seq
        self.applied.clear()


class Inboxes(RuleBasedStateMachine):
    def __init__(self, stage: Stage) -> None:
        super().__init__()
        self.stage = stage
        self.apps = stage.server.apps
        (self.user,) = stage.customers(1)
        self.token = stage.app.accounts.mint(self.user, ["customer"], 3600)
        self.devices = {name: Device(name) for name in ("a", "b")}
        self.head = 0
        self.floor = 0

    # --- what happens

    @initialize()
    def both_come(self) -> None:
        self.a_device_comes("a", 0)
        self.a_device_comes("b", 1)

    @rule(worker=worker, count=st.integers(1, 5), silently=st.booleans())
    def events_commit(self, worker: int, count: int, silently: bool) -> None:
        """Silently: the worker dies after its commit, before it has told anybody."""
        self.stage.run(self.commit(worker, count, silently))

    @precondition(lambda self: any(device.client is None for device in self.devices.values()))
    @rule(worker=worker, missing=st.integers(RESUME_EVENTS_MAX - 1, RESUME_EVENTS_MAX + 3), really=st.integers(0, 5))
    def a_flood_commits(self, worker: int, missing: int, really: int) -> None:
        if really == 0 and self.head < 3 * RESUME_EVENTS_MAX:
            self.stage.run(self.commit(worker, missing, True))

    async def commit(self, worker: int, count: int, silently: bool) -> None:
        app = self.apps[worker]
        bodies = [b'{"n":%d}' % number for number in range(self.head + 1, self.head + count + 1)]
        async with app.pg.system_tx() as tx:
            facts = await append(tx, [pending(self.user, "test.told", body) for body in bodies])
        self.head += count
        assert [fact.seq for fact in facts] == list(range(self.head - count + 1, self.head + 1))
        if not silently:
            app.inbox.deliver(facts)

    @rule(which=which, worker=worker)
    def a_device_comes(self, which: str, worker: int) -> None:
        device = self.devices[which]
        if device.client is None:
            self.stage.run(self.come(device, worker))

    async def come(self, device: Device, worker: int) -> None:
        client = Client(
            self.stage.server.url(worker),
            self.token,
            device=device.name,
            session=device.session,
            attempt=device.attempt,
            on_event=device.event,
            on_snapshot=device.snapshot,
            jitter=lambda _: 0.0,
        )
        device.client, device.worker = await device.line.enter_async_context(client), worker

    @rule(which=which)
    def a_device_leaves(self, which: str) -> None:
        self.stage.run(self.leave(self.devices[which]))

    async def leave(self, device: Device) -> None:
        if device.client is not None:
            await device.line.aclose()
            device.attempt, device.client = device.client.attempt, None

    @rule(which=which, worker=worker, meanwhile=st.integers(0, 3), silently=st.booleans())
    def a_device_moves(self, which: str, worker: int, meanwhile: int, silently: bool) -> None:
        device = self.devices[which]
        self.stage.run(self.leave(device))
        if meanwhile:
            self.stage.run(self.commit(1 - worker, meanwhile, silently))
        self.stage.run(self.come(device, worker))

    @rule(which=which, then=st.integers(0, 3))
    def a_line_breaks(self, which: str, then: int) -> None:
        """In a tunnel, while something more commits; the phone comes back by itself."""
        self.stage.run(self.tear(self.devices[which], then))

    async def tear(self, device: Device, then: int) -> None:
        if device.client is not None:
            device.client.drop()
        if then:
            await self.commit(1 - device.worker, then, False)

    @rule()
    def redis_forgets_everything(self) -> None:
        for words in ("FLUSHALL",), ("FUNCTION", "FLUSH"):
            self.stage.run(self.redis(*words))

    async def redis(self, *words: str) -> None:
        await self.stage.app.redis.plain.execute_command(*words)

    @rule(keep=st.integers(0, 8))
    def old_events_are_forgotten(self, keep: int) -> None:
        """Days later: whoever is on a line has long had them, whoever is away may be too far back to resume."""
        self.everybody_here_catches_up()
        upto = self.head - keep
        if upto > self.floor:
            self.stage.sql("DELETE FROM events WHERE user_id = $1 AND seq <= $2", self.user, upto)
            self.floor = upto

    @rule()
    def everybody_here_catches_up(self) -> None:
        for device in self.devices.values():
            if device.client is not None:
                self.stage.run(self.catch_up(device))

    async def catch_up(self, device: Device) -> None:
        """The relay's turn on his worker, and then everything there is."""
        async with asyncio.timeout(WITHIN_S):
            while device.seq < self.head:
                assert device.client is not None
                if device.client.live.is_set():
                    await self.apps[device.worker].inbox.poll_heads()
                await asyncio.sleep(0)

    # --- what must hold

    @invariant()
    def what_was_applied_is_a_prefix_without_gaps(self) -> None:
        for device in self.devices.values():
            seqs = [event.seq for event in device.applied]
            assert seqs == list(range(device.base + 1, device.base + len(seqs) + 1))
            assert [event.data["n"] for event in device.applied] == seqs, "each is the event that was committed"
            assert device.seq <= self.head

    @invariant()
    def a_snapshot_comes_only_where_events_cannot(self) -> None:
        for device in self.devices.values():
            for number, (had, covers) in enumerate(device.jumps):
                assert number == 0 or covers - had > RESUME_EVENTS_MAX or had < self.floor

    def teardown(self) -> None:
        self.everybody_here_catches_up()
        self.what_was_applied_is_a_prefix_without_gaps()
        for device in self.devices.values():
            self.stage.run(self.leave(device))


@pytest.fixture
def stage(database_url: str, redis_url: str) -> Iterator[Stage]:
    with stage_of(database_url, redis_url, clock=SystemClock(), workers=2) as opened:
        yield opened


def test_devices_apply_a_prefix_whatever_happens(stage: Stage) -> None:
    run_state_machine_as_test(
        lambda: Inboxes(stage), settings=settings(MACHINE, max_examples=50, stateful_step_count=40)
    )
