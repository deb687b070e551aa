"""A small real bank that pays like other companies': POST /payouts under an Idempotency-Key, GET /payouts/{id}. It can be slow, moody and mute.

`script` says how the next submissions are taken, one after the other, then `mode` does; `questions` the same of queries. One key is paid once, whatever
else happens: that is what `paid` counts, and what the tests hold against it.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import web

SECRET = "bank-secret-0123456789-0123456789-012345"


class Bank:
    """Modes: pays, refuses, refuses_400 (a 4xx that says so), denies (a 401 that says nothing), hangs (before it pays), pays_hangs, 500_after, 500_before,
    drops (pays, and the line breaks), pays_late (pending, until `settle`), unknown (pays, and answers nonsense), other (answers about another payout)."""

    def __init__(self) -> None:
        self.port = 0
        self.mode = "pays"
        self.script: list[str] = []
        self.questions: list[str] = []
        self.known: dict[str, dict[str, Any]] = {}
        """id → status, transaction_id, what was asked."""
        self.paid: Counter[str] = Counter()
        """How often money left for a key."""
        self.asked: list[str] = []
        """Every call, as it came: submit or query."""
        self.release = asyncio.Event()
        self.arrived = asyncio.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def settings(self, **given: Any) -> dict[str, Any]:
        base = {"payout_by": "http", "payout_url": self.url, "payout_secret": SECRET, "payout_timeout_s": 0.4}
        return base | {"retry_base_s": 0.05} | given

    def settle(self) -> None:
        """What was pending is paid now."""
        for key, entry in self.known.items():
            if entry["status"] == "pending":
                self._pay(key, entry["body"])

    def _pay(self, key: str, body: dict[str, Any]) -> None:
        if self.known.get(key, {}).get("status") != "paid":
            self.paid[key] += 1
            self.known[key] = {"status": "paid", "transaction_id": f"tx-{key[-8:]}", "body": body}

    def _said(self, key: str) -> dict[str, Any]:
        entry = self.known[key]
        return {"id": key, **{name: value for name, value in entry.items() if name != "body"}}

    async def submit(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        key = request.headers["Idempotency-Key"]
        assert key == body["id"] and request.headers["Authorization"] == f"Bearer {SECRET}"
        assert set(body) == {"id", "amount_minor", "currency", "bank_code", "account_number", "account_name"}
        self.asked.append("submit")
        self.arrived.set()
        if key in self.known:  # the same key: the same answer, and nothing is paid again
            assert self.known[key]["body"] == body, "one key, two payouts"
            return web.json_response(self._said(key))
        mode = self.script.pop(0) if self.script else self.mode
        match mode:
            case "hangs":
                await self.release.wait()
                return web.json_response({"error": "gave up"}, status=503)
            case "500_before":
                return web.json_response({"error": "oops"}, status=500)
            case "denies":
                return web.json_response({"error": "who are you"}, status=401)
            case "refuses" | "refuses_400":
                self.known[key] = {
                    "status": "failed",
                    "reason": f"account {body['account_number']}\0 closed",
                    "body": body,
                }
                return web.json_response(self._said(key), status=200 if mode == "refuses" else 422)
            case "pays_late":
                self.known[key] = {"status": "pending", "body": body}
                return web.json_response(self._said(key), status=202)
        self._pay(key, body)
        match mode:
            case "pays":
                return web.json_response(self._said(key), status=201)
            case "pays_hangs":
                await self.release.wait()
            case "500_after":
                return web.json_response({"error": "oops"}, status=500)
            case "drops":
                assert request.transport is not None
                request.transport.abort()
            case "unknown":
                return web.Response(text="<html>all is well</html>", content_type="text/html")
            case "other":
                return web.json_response({"id": "somebody else's", "status": "failed"})
            case _:
                raise AssertionError(mode)
        return web.Response(status=504)

    async def query(self, request: web.Request) -> web.StreamResponse:
        assert request.headers["Authorization"] == f"Bearer {SECRET}"
        self.asked.append("query")
        key = request.match_info["id"]
        match self.questions.pop(0) if self.questions else "answers":
            case "500":
                return web.json_response({}, status=500)
            case "hangs":
                await self.release.wait()
            case "unknown":
                return web.Response(text="?")
        if key not in self.known:
            return web.json_response({"error": "no such payout"}, status=404)
        return web.json_response(self._said(key))


@asynccontextmanager
async def fake_bank() -> AsyncIterator[Bank]:
    """A bank on a loopback port. At its end it has paid nothing twice."""
    bank = Bank()
    app = web.Application()
    app.router.add_post("/v1/payouts", bank.submit)
    app.router.add_get("/v1/payouts/{id}", bank.query)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    bank.port = runner.addresses[0][1]
    try:
        yield bank
    finally:
        bank.release.set()
        await runner.cleanup()
    assert all(times == 1 for times in bank.paid.values()), f"paid more than once: {bank.paid}"
