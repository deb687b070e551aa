"""A server for tests of earnings."""

from collections.abc import AsyncIterator

import pytest

from tests.support.server import Server, serving


@pytest.fixture
async def server(database_url: str, redis_url: str) -> AsyncIterator[Server]:
    async with serving(database_url, redis_url) as running:
        yield running
