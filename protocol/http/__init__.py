"""Typed calls for every route, over aiohttp. Answers are the JSON of `resources.py` as dicts."""

import asyncio
import random
from collections.abc import Callable, Mapping
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self
from uuid import UUID, uuid4

import aiohttp
import orjson

from protocol.errors import Denied, ErrorCode
from protocol.http.accounts import AccountCalls
from protocol.http.earnings import EarningCalls
from protocol.http.incentives import IncentiveCalls
from protocol.http.notices import NoticeCalls
from protocol.http.office import OfficeCalls
from protocol.http.papers import PaperCalls
from protocol.http.performance import PerformanceCalls
from protocol.http.ratings import RatingCalls
from protocol.http.support import SupportCalls
from protocol.http.wallets import WalletCalls
from protocol.lifecycle import AdminAction, JobStatus, ServiceType, Stage

BACKOFF_S: Final = 0.2
BACKOFF_S_MAX: Final = 5.0

Token = str | Callable[[], str]
"""A token, or what gives a fresh one."""

Place = Mapping[str, Any]
"""{"lat", "lng", "address"}"""


def full_jitter(bound_s: float) -> float:
    """A wait between 0 and `bound_s`: clients that lost the same server do not come back together."""
    return random.uniform(0, bound_s)


class Http:
    """The HTTP half of the contract for one user. A POST carries one Idempotency-Key through all its tries.

    What decided nothing (5xx, BUSY, REQUEST_IN_PROGRESS, 429, a lost connection) is asked again for `patience_s`;
    after that it is raised like any other no. Without `session` it makes and closes its own, by `async with`.
    """

    def __init__(
        self,
        base_url: str,
        token: Token,
        *,
        session: aiohttp.ClientSession | None = None,
        locale: str | None = None,
        timeout_s: float = 10.0,
        patience_s: float = 30.0,
        jitter: Callable[[float], float] = full_jitter,
    ) -> None:
        self._base_url = base_url.rstrip("/")
        self._token = token
        self._session = session
        self._own_session: aiohttp.ClientSession | None = None
        self._headers = {} if locale is None else {"Accept-Language": locale}
        self._timeout = aiohttp.ClientTimeout(total=timeout_s)
        self._patience_s = patience_s
        self._jitter = jitter
        self.account = AccountCalls(self)
        self.papers = PaperCalls(self)
        self.notices = NoticeCalls(self)
        self.office = OfficeCalls(self)
        self.support = SupportCalls(self)
        self.earnings = EarningCalls(self)
        self.incentives = IncentiveCalls(self)
        self.wallet = WalletCalls(self)
        self.ratings = RatingCalls(self)
        self.performance = PerformanceCalls(self)

    async def __aenter__(self) -> Self:
        if self._session is None:
            self._session = self._own_session = aiohttp.ClientSession()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._own_session is not None:
            await self._own_session.close()
            self._session = self._own_session = None

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        params: Mapping[str, object] | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """One request to its final answer. None values of `body` and `params` are left out.

        `key` is the Idempotency-Key of a POST; give it to ask again for an answer that was not final.
        Raises: Denied.
        """
        data = None
        if body is not None:
            data = orjson.dumps({name: value for name, value in body.items() if value is not None})
        return await self.send(
            method, path, lambda: data, kind=None if body is None else "application/json", params=params, key=key
        )

    async def send(
        self,
        method: str,
        path: str,
        data: Callable[[], Any],
        *,
        kind: str | None = None,
        params: Mapping[str, object] | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """The same with a body of any kind; `data` gives it anew for each try."""
        headers = dict(self._headers)
        if method == "POST":
            headers["Idempotency-Key"] = key or str(uuid4())
        if kind is not None:
            headers["Content-Type"] = kind
        query = {name: str(value) for name, value in (params or {}).items() if value is not None}
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + self._patience_s
        tries = 0
        while True:
            denied, after_s = await self._once(method, path, headers, data(), query)
            if not isinstance(denied, Denied):
                return denied
            if after_s is None:
                raise denied
            wait_s = after_s + self._jitter(min(BACKOFF_S_MAX, BACKOFF_S * 2 ** min(tries, 10)))
            if loop.time() + wait_s > give_up_at:
                raise denied
            tries += 1
            await asyncio.sleep(wait_s)

    async def _once(
        self, method: str, path: str, headers: dict[str, str], data: Any, query: dict[str, str]
    ) -> tuple[dict[str, Any] | Denied, float | None]:
        """(answer, None), (a final no, None) or (no answer yet, seconds to wait at least)."""
        if self._session is None:
            raise RuntimeError("Http without a session is used inside `async with`")
        token = self._token() if callable(self._token) else self._token
        try:
            async with self._session.request(
                method,
                self._base_url + path,
                data=data,
                params=query,
                headers={**headers, "Authorization": f"Bearer {token}"},
                timeout=self._timeout,
            ) as response:
                content = await response.read()
                status, after = response.status, response.headers.get("Retry-After", "")
        except (aiohttp.ClientConnectionError, aiohttp.ClientPayloadError, TimeoutError) as exc:
            return Denied(ErrorCode.BUSY, f"no answer: {exc or type(exc).__name__}"), 0.0
        try:
            answer = orjson.loads(content) if content else {}
        except orjson.JSONDecodeError:
            answer = {}
        if status < HTTPStatus.BAD_REQUEST:
            return answer, None
        error = answer.get("error") or {}
        code = error.get("code", ErrorCode.UNKNOWN_ERROR)
        denied = Denied(code, error.get("message", f"status {status}"), error.get("details"), status=status)
        undecided = status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS
        if undecided or code == ErrorCode.REQUEST_IN_PROGRESS:
            return denied, _retry_after_s(denied.details, after)
        return denied, None

    # --- the caller

    async def me(self) -> dict[str, Any]:
        return await self.call("GET", "/v1/me")

    async def patch_me(self, **fields: object) -> dict[str, Any]:
        """first_name, last_name, phone_number, locale."""
        return await self.call("PATCH", "/v1/me", fields)

    async def socket_ticket(self) -> dict[str, Any]:
        """{"ticket", "expires_in_s"}, for a browser's socket."""
        return await self.call("POST", "/v1/socket/tickets")

    # --- customers

    async def quote(self, service_type: ServiceType, pickup: Place, dropoff: Place | None = None) -> dict[str, Any]:
        body = {"service_type": service_type, "pickup": pickup, "dropoff": dropoff}
        return await self.call("POST", "/v1/quotes", body)

    async def create_job(
        self,
        service_type: ServiceType,
        pickup: Place,
        dropoff: Place | None = None,
        *,
        note: str | None = None,
        payment_method: str | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """The new Job; offers go out at once."""
        body = {
            "service_type": service_type,
            "pickup": pickup,
            "dropoff": dropoff,
            "note": note,
            "payment_method": payment_method,
        }
        return await self.call("POST", "/v1/jobs", body, key=key)

    # --- jobs

    async def job(self, job_id: UUID) -> dict[str, Any]:
        """The Job, or for a provider with a live offer its offer view."""
        return await self.call("GET", f"/v1/jobs/{job_id}")

    async def jobs(
        self, *, status: JobStatus | None = None, limit: int | None = None, cursor: str | None = None
    ) -> dict[str, Any]:
        """A page of own jobs: {"items", "next_cursor"?}."""
        return await self.call("GET", "/v1/jobs", params={"status": status, "limit": limit, "cursor": cursor})

    async def cancel(self, job_id: UUID, reason: str | None = None, *, key: str | None = None) -> dict[str, Any]:
        return await self.call("POST", f"/v1/jobs/{job_id}/cancel", {"reason": reason}, key=key)

    async def available(
        self, *, max_distance_m: float | None = None, limit: int | None = None, cursor: str | None = None
    ) -> dict[str, Any]:
        """A page of Offers, nearest first."""
        params = {"max_distance_m": max_distance_m, "limit": limit, "cursor": cursor}
        return await self.call("GET", "/v1/jobs/available", params=params)

    async def accept(
        self, job_id: UUID, offer_id: UUID | None = None, round: int | None = None, *, key: str | None = None
    ) -> dict[str, Any]:
        """{"success", "job", "navigation_url"}."""
        body = {"offer_id": None if offer_id is None else str(offer_id), "round": round}
        return await self.call("POST", f"/v1/jobs/{job_id}/accept", body, key=key)

    async def advance(
        self,
        job_id: UUID,
        to: Stage,
        *,
        distance_m: float | None = None,
        duration_s: float | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        body = {"to": to, "distance_m": distance_m, "duration_s": duration_s}
        return await self.call("POST", f"/v1/jobs/{job_id}/advance", body, key=key)

    # --- providers

    async def register(
        self,
        *,
        first_name: str,
        last_name: str,
        email: str,
        phone_number: str,
        service_types: list[ServiceType],
        referral_code: str | None = None,
        key: str | None = None,
    ) -> dict[str, Any]:
        """{"provider_id", "status", "verification_token"}."""
        body = {
            "first_name": first_name,
            "last_name": last_name,
            "email": email,
            "phone_number": phone_number,
            "service_types": service_types,
            "referral_code": referral_code,
        }
        return await self.call("POST", "/v1/providers", body, key=key)

    async def provider(self) -> dict[str, Any]:
        return await self.call("GET", "/v1/providers/me")

    async def patch_provider(self, **fields: object) -> dict[str, Any]:
        """first_name, last_name, phone_number, service_radius_m, service_types, locale."""
        return await self.call("PATCH", "/v1/providers/me", fields)

    async def set_online(self, online: bool, lat: float | None = None, lng: float | None = None) -> dict[str, Any]:
        """{"success", "message", "provider_id", "is_online"}."""
        return await self.call("PUT", "/v1/providers/me/online", {"online": online, "lat": lat, "lng": lng})

    # --- admins

    async def provider_action(
        self, provider_id: UUID, action: AdminAction, reason: str | None = None, *, key: str | None = None
    ) -> dict[str, Any]:
        """{"success", "provider", "affected_jobs"?}."""
        body = {"action": action, "reason": reason}
        return await self.call("POST", f"/v1/admin/providers/{provider_id}/actions", body, key=key)

    async def admin_jobs(
        self,
        *,
        status: JobStatus | None = None,
        stuck: bool | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> dict[str, Any]:
        """A page of the Jobs that need a person."""
        flag = None if stuck is None else str(stuck).lower()
        params = {"status": status, "stuck": flag, "limit": limit, "cursor": cursor}
        return await self.call("GET", "/v1/admin/jobs", params=params)

    async def why(self, job_id: UUID) -> dict[str, Any]:
        """Who was considered for the job, and what became of each."""
        return await self.call("GET", f"/v1/admin/jobs/{job_id}/why")

    async def why_not_me(self, job_id: UUID) -> dict[str, Any]:
        """What became of the asker himself."""
        return await self.call("GET", f"/v1/providers/me/jobs/{job_id}/why")

    async def release(self, job_id: UUID, reason: str, *, key: str | None = None) -> dict[str, Any]:
        """Take the job from its provider: a new round."""
        return await self.call("POST", f"/v1/admin/jobs/{job_id}/release", {"reason": reason}, key=key)


def _retry_after_s(details: Mapping[str, Any], header: str) -> float:
    """What the server asks to wait: details.retry_after_ms is finer than the header of whole seconds."""
    wait_ms = details.get("retry_after_ms")
    if isinstance(wait_ms, int | float):
        return max(0.0, wait_ms / 1000)
    return float(header) if header.isdecimal() else 0.0
