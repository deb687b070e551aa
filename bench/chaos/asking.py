"""HTTP requests that are asked again, on one worker or another, until their answer is final."""

import asyncio
import random
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import orjson

from bench.faults.proxy import Proxy
from protocol.http import full_jitter

TRY_WITHIN_S = 6.0
BACKOFF_S, BACKOFF_S_MAX = 0.2, 2.0


@dataclass(frozen=True, slots=True)
class Answer:
    """A final answer."""

    status: int
    data: dict[str, Any]

    @property
    def ok(self) -> bool:
        return self.status < 400

    @property
    def word(self) -> str:
        """`ok`, the status of a JOB_NOT_AVAILABLE, or the error's code."""
        if self.ok:
            return "ok"
        error = self.data.get("error") or {}
        code = str(error.get("code", self.status))
        return str((error.get("details") or {}).get("status", code)) if code == "JOB_NOT_AVAILABLE" else code


@dataclass(slots=True)
class Asker:
    """Asks through the workers' client links. `in_flight`: by worker, requests that wait for an answer now."""

    http: aiohttp.ClientSession
    links: Sequence[Proxy]
    dice: random.Random
    in_flight: Counter[int] = field(default_factory=Counter)
    statuses: Counter[int] = field(default_factory=Counter)

    async def ask(
        self, method: str, path: str, token: str, body: Mapping[str, object] | None = None, *, key: str = ""
    ) -> Answer:
        """Until the answer is final, however long that takes."""
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
        if key:
            headers["Idempotency-Key"] = key
        data = None if body is None else orjson.dumps(body)
        node = self.dice.randrange(len(self.links))
        tries = 0
        while True:
            answer, after_s = await self._once(node, method, path, headers, data)
            if answer is not None:
                return answer
            if len(self.links) > 1:
                node = self.dice.choice([number for number in range(len(self.links)) if number != node])
            await asyncio.sleep(after_s + full_jitter(min(BACKOFF_S_MAX, BACKOFF_S * 2 ** min(tries, 8))))
            tries += 1

    async def _once(
        self, node: int, method: str, path: str, headers: Mapping[str, str], data: bytes | None
    ) -> tuple[Answer | None, float]:
        """(a final answer or None, seconds to wait before the next try)."""
        self.in_flight[node] += 1
        try:
            async with self.http.request(
                method,
                self.links[node].url + path,
                data=data,
                headers=headers,
                timeout=aiohttp.ClientTimeout(total=TRY_WITHIN_S),
            ) as response:
                content = await response.read()
                status, after = response.status, response.headers.get("Retry-After", "")
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None, 0.0
        finally:
            self.in_flight[node] -= 1
        self.statuses[status] += 1
        try:
            found = orjson.loads(content) if content else {}
        except orjson.JSONDecodeError:
            return None, 0.0  # cut in the middle
        code = (found.get("error") or {}).get("code") if status >= 400 else None
        if status >= 500 or status == 429 or code == "REQUEST_IN_PROGRESS":
            return None, min(2.0, float(after)) if after.isdecimal() else 0.0
        return Answer(status, found), 0.0


def now_ns() -> int:
    """The clock of the record: the machine's wall clock."""
    return time.time_ns()
