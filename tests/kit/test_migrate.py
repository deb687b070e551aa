"""The migration runner against a real database: order, one at a time, edited files, and SQL that is hard to split."""

import asyncio
import re
from pathlib import Path

import asyncpg
import pytest

from dispatch.kit.migrate import MigrationError, content_hash, migrate, pending

HARD_TO_SPLIT = """
CREATE TABLE dispatch.notes (body text NOT NULL DEFAULT 'a;b', CHECK (body <> '--'), count int NOT NULL DEFAULT 0);
-- it's a comment; with a quote
CREATE FUNCTION dispatch.bump() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE step int := 1;
BEGIN
    IF NEW.body = 'big' THEN step := 10; END IF;  -- it's inside; still inside
    CASE WHEN step = 10 THEN NULL; ELSE step := 2; END CASE;
    FOR i IN 1..step LOOP NEW.count := NEW.count + 1; END LOOP;
    EXECUTE $q$ SELECT 1; $q$;
    RETURN NEW;
END $$;
CREATE TRIGGER bump BEFORE INSERT ON notes FOR EACH ROW EXECUTE FUNCTION dispatch.bump();
CREATE FUNCTION total() RETURNS bigint LANGUAGE sql BEGIN ATOMIC SELECT 1; SELECT sum(count) FROM notes; END;
DO $do$ BEGIN CREATE ROLE migrate_test_role; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $do$;
INSERT INTO notes (body) VALUES ('big'), ('x;y');
"""


def write(folder: Path, name: str, apply: str, *, depends: str = "", transaction: bool = True) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.sql"
    mode = "" if transaction else "-- transaction: false\n"
    path.write_text(f"-- {name}\n-- depends: {depends}\n{mode}\n-- migrate: apply\n{apply}\n-- migrate: rollback\n")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "migrations"
    write(folder, "0001_first", HARD_TO_SPLIT)
    write(folder, "0002_second", "ALTER TABLE notes ADD COLUMN extra int;", depends="0001_first")
    return folder


async def fetch(url: str, sql: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(sql)
    finally:
        await connection.close()


async def test_applies_in_order_once_and_leaves_bodies_whole(empty_database_url: str, folder: Path) -> None:
    assert await pending(empty_database_url, folder) == ["0001_first", "0002_second"]
    assert await migrate(empty_database_url, folder) == ["0001_first", "0002_second"]
    assert await fetch(empty_database_url, "SELECT dispatch.total()") == 12  # 10 by the IF, 2 by the CASE
    assert await migrate(empty_database_url, folder) == []
    assert await pending(empty_database_url, folder) == []


async def test_eight_at_once_apply_each_file_once(empty_database_url: str, folder: Path) -> None:
    write(folder, "0003_index", "CREATE INDEX CONCURRENTLY ON notes (body);", depends="0002_second", transaction=False)
    answers = await asyncio.gather(*(migrate(empty_database_url, folder) for _ in range(8)))
    assert sorted(name for answer in answers for name in answer) == ["0001_first", "0002_second", "0003_index"]
    assert await fetch(empty_database_url, "SELECT count(*) FROM pg_indexes WHERE tablename = 'notes'") == 1


async def test_an_edited_file_is_refused_by_name(empty_database_url: str, folder: Path) -> None:
    await migrate(empty_database_url, folder)
    path = write(folder, "0002_second", "ALTER TABLE notes ADD COLUMN other int;", depends="0001_first")
    with pytest.raises(MigrationError, match=re.escape(path.name) + " was changed after"):
        await migrate(empty_database_url, folder)
    with pytest.raises(MigrationError, match="was changed after"):
        await pending(empty_database_url, folder)


def test_blanks_at_line_ends_are_no_edit(tmp_path: Path) -> None:
    one = tmp_path / "a.sql"
    one.write_text("SELECT 1;\nSELECT 2;\n")
    two = tmp_path / "b.sql"
    two.write_text("SELECT 1; \r\nSELECT 2;\n\n")
    three = tmp_path / "c.sql"
    three.write_text("SELECT 1;\nSELECT 3;\n")
    assert content_hash(one) == content_hash(two) != content_hash(three)


async def test_a_file_that_fails_leaves_nothing_behind(empty_database_url: str, folder: Path) -> None:
    bad = "CREATE TABLE half (x int); SELECT no_such_function();"
    write(folder, "0003_bad", bad, depends="0002_second")
    with pytest.raises(MigrationError, match=r"0003_bad\.sql failed: .*no_such_function"):
        await migrate(empty_database_url, folder)
    assert await fetch(empty_database_url, "SELECT to_regclass('dispatch.half')") is None
    write(folder, "0003_bad", "CREATE TABLE half (x int);", depends="0002_second")
    assert await migrate(empty_database_url, folder) == ["0003_bad"]


async def test_a_database_of_a_newer_version_is_refused(empty_database_url: str, folder: Path) -> None:
    await migrate(empty_database_url, folder)
    (folder / "0002_second.sql").unlink()
    with pytest.raises(MigrationError, match="does not know: 0002_second"):
        await migrate(empty_database_url, folder)


async def test_files_must_form_one_line(empty_database_url: str, folder: Path) -> None:
    write(folder, "0003_loose", "SELECT 1;")
    with pytest.raises(MigrationError, match="must say `-- depends: 0002_second`"):
        await migrate(empty_database_url, folder)


async def test_an_empty_folder_is_an_error(empty_database_url: str, tmp_path: Path) -> None:
    with pytest.raises(MigrationError, match="no migrations"):
        await migrate(empty_database_url, tmp_path)


async def test_waiting_for_another_has_an_end(empty_database_url: str, folder: Path) -> None:
    holder = await asyncpg.connect(empty_database_url)
    await holder.execute("SELECT pg_advisory_lock($1)", 0x64697370)
    with pytest.raises(MigrationError, match="Another process has been migrating"):
        await migrate(empty_database_url, folder, lock_timeout_s=0.3)
    await holder.close()
    assert len(await migrate(empty_database_url, folder)) == 2


async def test_a_killed_migration_lets_the_next_one_in(empty_database_url: str, folder: Path) -> None:
    write(folder, "0003_slow", "SELECT pg_sleep(60);", depends="0002_second")
    watcher = await asyncpg.connect(empty_database_url)
    task = asyncio.create_task(migrate(empty_database_url, folder))
    async with asyncio.timeout(20):
        while not await watcher.fetchval("SELECT 1 FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%'"):
            pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    write(folder, "0003_slow", "SELECT 1;", depends="0002_second")
    assert await migrate(empty_database_url, folder) == ["0003_slow"]
    await watcher.close()
