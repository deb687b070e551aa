"""Scenes: the default market's settings, and the default market under broadcast."""

from collections.abc import AsyncIterator

import pytest

from dispatch.settings import Settings
from tests.properties.scenes import BROADCAST, Scene, scene_of


@pytest.fixture
async def scene(database_url: str, redis_url: str) -> AsyncIterator[Scene]:
    async with scene_of(database_url, redis_url) as opened:
        yield opened


@pytest.fixture
async def papers_scene(database_url: str, redis_url: str) -> AsyncIterator[Scene]:
    """With the papers that the default settings ask for."""
    async with scene_of(database_url, redis_url, required_documents=Settings().required_documents) as opened:
        yield opened


@pytest.fixture
async def broadcasting(database_url: str, redis_url: str) -> AsyncIterator[Scene]:
    async with scene_of(database_url, redis_url, markets=BROADCAST) as opened:
        yield opened
