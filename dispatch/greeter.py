"""Connections meet slices: who somebody is, what a greeting does, what a closed line leaves behind."""

from datetime import datetime
from uuid import UUID

from dispatch.accounts import Accounts
from dispatch.accounts import Claims as TokenClaims
from dispatch.claims import Claims
from dispatch.claims import sockets as claims_sockets
from dispatch.gateway import Connection, Door, Identity, SocketRules
from dispatch.inbox import Greeting, Inbox
from dispatch.jobs import Jobs
from dispatch.jobs import sockets as jobs_sockets
from dispatch.kit.errors import Forbidden
from dispatch.kit.tasks import Nursery
from dispatch.matching import Matching, Shifts
from dispatch.matching import sockets as matching_sockets
from dispatch.presence import Presence
from dispatch.presence import sockets as presence_sockets
from dispatch.providers import Providers
from dispatch.settings import Settings
from dispatch.tracking import Tracking
from dispatch.tracking import sockets as tracking_sockets
from protocol.frames import Ack, Advance, Auth, Cancel, Decline, Hello, Offline, Online

_ORDERED = frozenset({Online, Offline, Decline, Advance, Cancel})


class Greeter:
    """Connections meet slices here: who somebody is, what a greeting does, what a closed line leaves."""

    def __init__(
        self,
        accounts: Accounts,
        inbox: Inbox,
        presence: Presence,
        providers: Providers,
        tracking: Tracking,
        nursery: Nursery,
    ) -> None:
        self._accounts = accounts
        self._inbox = inbox
        self._presence = presence
        self._providers = providers
        self._tracking = tracking
        self._nursery = nursery
        self.door: Door
        self.lost: list[UUID] = []

    def rules(self, settings: Settings, jobs: Jobs, matching: Matching, shifts: Shifts, claims: Claims) -> SocketRules:
        requests = {
            Auth: self._auth,
            **jobs_sockets.requests(jobs),
            **matching_sockets.requests(matching, shifts),
            **claims_sockets.requests(claims),
            **tracking_sockets.requests(self._tracking),
        }
        signals = {Ack: self._ack, **presence_sockets.signals(self._presence, self._tracking.walk)}
        return SocketRules(
            self._by_token,
            self._by_ticket,
            self._greet,
            self._left,
            requests,
            signals,
            ordered=_ORDERED,
            origins=frozenset(settings.allowed_origins),
        )

    async def _by_token(self, token: str, address: str) -> Identity:
        return await self._identity(await self._accounts.read(token), address)

    async def _by_ticket(self, ticket: str, address: str) -> Identity:
        return await self._identity(await self._accounts.redeem_ticket(ticket), address)

    async def _identity(self, claims: TokenClaims, address: str) -> Identity:
        actor = await self._accounts.actor(claims, address=address, fresh=True)
        return Identity(claims.user_id, claims.expires_at, actor.locale, actor, claims)

    async def _auth(self, conn: Connection, frame: Auth) -> bytes:
        identity = await self._by_token(frame.token, conn.address)
        if identity.user_id != conn.user_id:
            raise Forbidden("the token is another user's")
        self.door.identify(conn, identity)
        return b"{}"

    def _ack(self, conn: Connection, frame: Ack) -> None:
        if conn.seat is not None:
            self._inbox.ack(conn.seat, frame.seq)

    async def _greet(self, conn: Connection, hello: Hello) -> None:
        conn.greeting = True
        state = await self._providers.state(conn.user_id)
        expires_at: datetime = conn.identity.expires_at
        conn.seat = await self._inbox.greet(conn, conn.session, hello, Greeting(state is not None, expires_at))
        if conn.seat is not None and state is not None:
            await self._arrive(conn.user_id, conn.conn_id)

    async def _arrive(self, user_id: UUID, conn_id: UUID) -> None:
        # Asked after the seat stands, and again if a fact overtook the answer: presence never starts from a stale one.
        while True:
            before = self._presence.revision(user_id)
            state = await self._providers.state(user_id)
            if state is None or conn_id not in self.door.connections:
                return
            self._presence.arrive(state, conn_id)
            if self._presence.revision(user_id) == before:
                return

    def registered(self, user_id: UUID, name: str, body: bytes) -> None:
        """A user who became a provider while connected is one from now on."""
        if name == "provider.updated" and self._presence.of(user_id) is None:
            for seat in self._inbox.seats_of(user_id):
                seat.solo = True
                self._nursery.start(self._arrive(user_id, seat.line.conn_id), "arrive")

    def _left(self, conn: Connection) -> None:
        # Also for a connection whose greeting failed half way: its row may be there.
        self._inbox.gone(conn.conn_id)
        self._tracking.leave(conn)
        self._presence.depart(conn.user_id, conn.conn_id)
        if not self._inbox.seats_of(conn.user_id):
            self._presence.forget(conn.user_id)
        if conn.session.greeted or conn.greeting:
            self.lost.append(conn.conn_id)
