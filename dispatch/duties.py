"""What nobody asks for: it is time. Every loop of a worker, in one list."""

from collections.abc import Callable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any

from dispatch.gateway import SWEEP_EVERY_S
from dispatch.inbox import RELAY_EVERY_S
from dispatch.kit.tasks import repeat
from protocol.errors import ByeReason, CloseCode

if TYPE_CHECKING:
    from dispatch.app import App


def duties(app: "App") -> Sequence[tuple[str, Coroutine[Any, Any, None]]]:
    """Every loop of a worker. Each runs on all workers, in bounded batches, and may run twice harmlessly."""
    settings, clock = app.settings, app.clock

    def loop(name: str, every_s: float, duty: Callable[[], Any]) -> tuple[str, Coroutine[Any, Any, None]]:
        gauges = app.gauges
        return name, repeat(
            duty, every_s=every_s, clock=clock, name=name, on_failure=gauges.failed, on_wake=gauges.woke
        )

    async def beat() -> None:
        await app.inbox.beat()
        app.health.postgres_at = clock.monotonic()

    async def flush_trails() -> None:
        await app.tracking.flush({live.busy for live in app.presence if live.busy is not None})

    async def rejudge() -> None:
        while await app.providers.rejudge():
            await clock.sleep(0.02)

    async def sweep_papers() -> None:
        await app.expiry.sweep()
        while await app.documents.sweep():
            await clock.sleep(0.1)

    async def note_lost() -> None:
        lost, app.lost[:] = app.lost[:], []
        if lost:
            try:
                await app.inbox.lost(lost)
            except BaseException:
                app.lost.extend(lost)
                raise

    async def revoke() -> None:
        changed = await app.accounts.changed_lately()
        app.accounts.forget([access.user_id for access in changed])
        for access in changed:
            for seat in tuple(app.inbox.seats_of(access.user_id)):
                conn = app.door.connections.get(seat.line.conn_id)
                if conn is None:
                    continue
                token, actor = conn.identity.token, conn.identity.actor
                if access.blocked:
                    conn.leave(CloseCode.BLOCKED, ByeReason.REVOKED)
                elif access.valid_after is not None and token.issued_at < access.valid_after:
                    conn.leave(CloseCode.UNAUTHENTICATED, ByeReason.EXPIRED)
                elif actor.roles != (token.roles if access.roles is None else access.roles):
                    # His phone comes back by itself, as who he is now.
                    conn.leave(CloseCode.RESTART, ByeReason.REVOKED)

    async def gather() -> None:
        app.gauges.gather()

    async def forget() -> None:
        await app.inbox.forget_events(days=settings.keep_events_days)
        while await app.accounts.forget_request_ids(hours=settings.keep_idem_hours):
            await clock.sleep(0.1)
        while await app.accounts.forget_proofs():
            await clock.sleep(0.1)
        while await app.sender.forget(days=settings.keep_notices_days):
            await clock.sleep(0.1)
        while await app.why.forget(days=settings.keep_rounds_days):
            await clock.sleep(0.1)

    return [
        loop("copier", 0.1, app.inbox.copier.run),
        loop("hand_over", 0.1, app.inbox.ear.listen),
        loop("fix_hand_over", 0.1, app.tracking.ear.listen),
        loop("positions", settings.tick_s, app.presence.tick),
        loop("gate_refresher", settings.tick_s, lambda: app.presence.refresh(app.providers.states)),
        loop("tracker", 0.25, app.tracking.tick),
        loop("offer_expirer", 0.5, app.matching.turn),
        loop("job_waker", 0.2, app.matching.wake),
        loop("round_noter", 1.0, app.why.write),
        loop("job_teller", 0.5, app.teller.turn),
        loop("offer_nudger", 1.0, app.nudges.turn),
        loop("reconciler", 2.0, app.matching.settle),
        loop("event_relay", RELAY_EVERY_S, app.inbox.relay),
        loop("unacked_repusher", 1.0, app.inbox.repeat),
        loop("ack_writer", 1.0, app.inbox.flush_acks),
        loop("socket_poller", 3.0, app.inbox.poll_sockets),
        loop("socket_revoker", 1.0, revoke),
        loop("key_refresher", 5.0, app.accounts.refresh_keys),
        loop("socket_sweeper", SWEEP_EVERY_S, app.door.sweep),
        loop("lost_noter", 0.5, note_lost),
        loop("presence_sweeper", 2.0, lambda: app.shifts.sweep(settings.gone_after_s)),
        loop("redis_watcher", 0.5, app.redis.watch),
        loop("redis_rebuilder", 1.0, app.presence.watch_epoch),
        loop("canary", 1.0, app.inbox.ear.speak),
        loop("fix_canary", 1.0, app.tracking.ear.speak),
        loop("silence_sweeper", 5.0, app.presence.sweep_silent),
        loop("beat", 1.0, beat),
        loop("undertaker", 5.0, app.inbox.bury),
        loop("trail_flusher", 5.0, flush_trails),
        loop("gauges", 2.0, gather),
        loop("job_counter", 5.0, app.gauges.count_jobs),
        loop("gate_judge", 30.0, rejudge),
        loop("delivery_rescuer", 5.0, app.sender.rescue),
        loop("payout_rescuer", 5.0, app.payouts.rescue),
        loop("paper_sweeper", 600.0, sweep_papers),
        loop("deferred_suspender", 5.0, app.expiry.suspend_due),
        loop("performance", 30.0, app.aggregates.run),
        loop("forgetter", 3600.0, forget),
    ]
