"""A server that asks for papers, and a folder for them that is gone after the test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.papers.scenes import Papers, papers_of


@pytest.fixture
async def papers(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Papers]:
    async with papers_of(database_url, redis_url, tmp_path) as opened:
        yield opened
