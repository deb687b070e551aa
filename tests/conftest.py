"""Fixtures that every test may use. Real stores only; they start when the first test asks for them.

`database_url`        a fresh, migrated database of this test's own
`empty_database_url`  a fresh database without tables
`redis_url`           an empty Redis database (the whole server is flushed before)
`stores`              the pair itself, with factories for tests that need several databases
"""

import os
from collections.abc import Iterator

import pytest
import structlog

from tests.support.stores import TestStores, running_test_stores

# A developer's own settings must not reach the tests, and above all not his databases.
for name in [*os.environ]:
    if name in {"DATABASE_URL", "REDIS_URL"} or name.startswith(("DISPATCH_", "PG")):
        del os.environ[name]


# What structlog does by itself with a traceback takes a second of the event loop each, where `rich` is installed.
structlog.configure(
    processors=[
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.dev.set_exc_info,
        structlog.processors.TimeStamper(fmt="%H:%M:%S.%f", utc=True),
        structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback),
    ]
)


@pytest.fixture(scope="session")
def stores() -> Iterator[TestStores]:
    with running_test_stores() as running:
        yield running


@pytest.fixture
def database_url(stores: TestStores) -> Iterator[str]:
    with stores.migrated_database() as url:
        yield url


@pytest.fixture
def empty_database_url(stores: TestStores) -> Iterator[str]:
    with stores.empty_database() as url:
        yield url


@pytest.fixture
def redis_url(stores: TestStores) -> str:
    return stores.clean_redis()
