"""A server behind a proxy of its operator's: callers keep their own addresses, and nobody can borrow another's."""

import aiohttp

from tests.support.server import serving


async def test_callers_behind_a_trusted_proxy_have_limits_of_their_own(database_url: str, redis_url: str) -> None:
    given = {"trusted_proxies": ["127.0.0.0/8"], "attempts_per_address": 2, "attempts_per_user": 50}
    async with serving(database_url, redis_url, **given) as server, aiohttp.ClientSession() as session:

        async def wrong(forwarded_for: str) -> int:
            body = {"email": "somebody@example.com", "password": "not his"}
            url = f"{server.url()}/v1/auth/sign-in"
            async with session.post(url, json=body, headers={"X-Forwarded-For": forwarded_for}) as answer:
                return answer.status

        assert [await wrong("198.51.100.1") for _ in range(3)] == [401, 401, 429]
        assert await wrong("203.0.113.5, 198.51.100.1") == 429, "what a caller writes himself moves him nowhere"
        assert await wrong("198.51.100.2") == 401
        # A socket's handshake goes the same way.
        async with server.working() as (driver, phone):
            assert phone.live.is_set() and driver.provider_id


async def test_without_a_trusted_proxy_a_header_counts_nothing(database_url: str, redis_url: str) -> None:
    async with serving(database_url, redis_url, attempts_per_address=2) as server, aiohttp.ClientSession() as session:
        statuses = []
        for number in range(3):
            body = {"email": f"{number}@example.com", "password": "not his"}
            headers = {"X-Forwarded-For": f"198.51.100.{number}"}
            async with session.post(f"{server.url()}/v1/auth/sign-in", json=body, headers=headers) as answer:
                statuses.append(answer.status)
        assert statuses == [401, 401, 429]
