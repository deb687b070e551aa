"""SQL and Lua: every named query prepares on the migrated schema, is described and used; headers of Lua fit their bodies."""

import re
from pathlib import Path

import asyncpg
import pytest

from dispatch.kit.lua import BadScript, parse, scripts
from dispatch.kit.sql import Queries

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "dispatch").rglob("queries.sql"))


@pytest.mark.parametrize("path", FILES, ids=[path.parent.name for path in FILES])
async def test_every_named_query_prepares_on_the_migrated_schema(path: Path, database_url: str) -> None:
    conn = await asyncpg.connect(database_url, server_settings={"search_path": "dispatch"})
    try:
        for name, text in Queries(path).items():
            try:
                await conn.prepare(text)
            except asyncpg.PostgresError as error:
                raise AssertionError(f"{path.parent.name}/{name}: {error}") from error
    finally:
        await conn.close()


@pytest.mark.parametrize("path", FILES, ids=[path.parent.name for path in FILES])
def test_every_named_query_is_used_by_somebody(path: Path) -> None:
    code = "".join(file.read_text(encoding="utf-8") for file in (ROOT / "dispatch").rglob("*.py"))
    for name in dict(Queries(path).items()):
        assert f'["{name}"]' in code, f"{path.parent.name}/{name} is dead: remove it"


@pytest.mark.parametrize("path", FILES, ids=[path.parent.name for path in FILES])
def test_every_named_query_says_what_its_arguments_are(path: Path) -> None:
    for name, text in Queries(path).items():
        for number in sorted(set(re.findall(r"\$(\d+)", re.sub(r"^--.*$", "", text, flags=re.MULTILINE))), key=int):
            said = "".join(line for line in text.splitlines() if line.startswith("--"))
            covered = (
                f"${number}" in said
                or any(int(a) <= int(number) <= int(b) for a, b in re.findall(r"\$(\d+)-\$(\d+)", said))
                or "The same" in said
            )
            assert covered, f"{path.parent.name}/{name}: ${number} is not described"


def test_headers_of_lua_name_what_their_bodies_read() -> None:
    assert {script.name for script in scripts()} >= {
        "claim",
        "claim_settle",
        "inbox_push",
        "inbox_read",
        "near",
        "unlist",
    }


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("return 1\n", "header"),
        ("--[[\n  other: x\n  returns 1\n]]\nreturn 1\n", "must begin"),
        ("--[[\n  bad: x\n]]\nreturn 1\n", "returns"),
        ("--[[\n  bad: x\n  returns 1\n]]\nreturn KEYS[1]\n", "does not name"),
        ("--[[\n  bad: x\n  KEYS[1] k\n  returns 1\n]]\nreturn 1\n", "never reads"),
    ],
)
def test_a_header_that_lies_is_refused(tmp_path: Path, text: str, problem: str) -> None:
    file = tmp_path / "bad.lua"
    file.write_text(text)
    with pytest.raises(BadScript, match=problem):
        parse(file)


def test_a_script_touches_one_slot() -> None:
    """One hash tag a script, so that a cluster works: no key is made inside, they all come as KEYS."""
    for script in scripts():
        for call in re.findall(r"redis\.call\('[A-Z]+',\s*([^,)]+)", script.body):
            assert call.startswith("KEYS["), f"{script.path}: {call} is no KEYS[…]"
