"""The rules of the house that a test can guard. Each failure says what to do instead."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = ROOT / "dispatch"

RANKS = {
    "protocol": 0, "kit": 0,
    "accounts": 1, "markets": 1, "inbox": 1, "audit": 1,
    "notifications": 2, "ledger": 2, "partners": 2,
    "providers": 3, "credits": 3,
    "presence": 4,
    "jobs": 5,
    "matching": 6, "bookings": 6,
    "claims": 7,
    "tracking": 8, "earnings": 8, "payments": 8,
    "wallets": 9, "incentives": 9, "ratings": 9,
    "messages": 10, "support": 10, "performance": 10,
    "admin": 12, "console": 13,
}  # fmt: skip
DOORS = {"api", "gateway"}
SLICES = set(RANKS) - {"protocol", "kit"}


def modules(*folders: str) -> Iterator[Path]:
    for folder in folders:
        yield from sorted((ROOT / folder).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """(line, dotted name) of everything a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def owner(path: Path) -> str:
    """The slice or room of the package that a file belongs to; "" for the wiring at its top."""
    parts = path.relative_to(PACKAGE).parts
    return parts[0] if len(parts) > 1 else ""


def test_slices_look_down_and_never_up_or_sideways() -> None:
    for path in modules("dispatch"):
        mine = owner(path)
        if mine not in SLICES:
            continue
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] != "dispatch" or len(parts) < 2 or parts[1] == mine or parts[1] not in SLICES:
                continue
            assert RANKS[parts[1]] <= RANKS[mine], (
                f"{path}:{line} {mine} (rank {RANKS[mine]}) imports {parts[1]} (rank {RANKS[parts[1]]}): ask upwards by a Protocol set in app.py, or tell by an event"
            )


def test_slices_of_one_rank_are_strangers_but_for_accounts_and_inbox() -> None:
    """Rank 1 is what everybody stands on; its members may not lean on each other either."""
    for path in modules("dispatch"):
        mine = owner(path)
        for line, name in imports(path):
            parts = name.split(".")
            if mine in SLICES and parts[0] == "dispatch" and len(parts) > 1 and parts[1] in SLICES and parts[1] != mine:
                assert RANKS[parts[1]] != RANKS[mine], (
                    f"{path}:{line} {mine} and {parts[1]} share a rank: what they share belongs to a lower or a higher one"
                )


def test_slices_are_entered_by_the_front_door() -> None:
    for path in modules("dispatch", "bench"):
        mine = owner(path) if path.is_relative_to(PACKAGE) else "bench"
        if path in (PACKAGE / "app.py", PACKAGE / "greeter.py"):
            continue  # the wiring hands doors their handlers: it knows every room
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] == "dispatch" and len(parts) > 2 and parts[1] in SLICES and parts[1] != mine:
                room = PACKAGE / parts[1] / f"{parts[2]}.py"
                assert not room.exists(), (
                    f"{path}:{line} goes through a window ({name}): import the name from dispatch.{parts[1]}, and export it there"
                )


def test_domains_do_not_know_their_doors_and_doors_not_the_domains() -> None:
    for path in modules("dispatch"):
        mine = owner(path)
        for line, name in imports(path):
            parts = name.split(".")
            if parts[0] != "dispatch" or len(parts) < 2:
                continue
            if mine in SLICES:
                assert parts[1] not in DOORS, (
                    f"{path}:{line} imports {name}: a slice gives routes and handlers to app.py, it does not know the door"
                )
            if mine in DOORS:
                assert parts[1] in {"kit", mine}, f"{path}:{line} imports {name}: a door knows protocol and kit only"
            if mine == "kit":
                assert parts[1] in {"kit"}, f"{path}:{line} imports {name}: kit knows no business"


def test_the_wire_stands_alone() -> None:
    for path in modules("protocol"):
        for line, name in imports(path):
            assert name.split(".")[0] not in {"dispatch", "bench", "asyncpg", "redis"}, (
                f"{path}:{line} imports {name}: a client uses protocol alone"
            )


def test_rules_and_models_are_pure() -> None:
    for path in modules("dispatch"):
        if path.stem not in {"rules", "policies"} or owner(path) not in SLICES:
            continue
        text = path.read_text(encoding="utf-8")
        assert "await " not in text and "async def" not in text, f"{path} awaits: that is service's or store's"
        for line, name in imports(path):
            assert name.split(".")[0] not in {"asyncpg", "redis", "aiohttp"}, f"{path}:{line} imports a driver"


BANNED = {
    r"\bcreate_task\(|\bensure_future\(": "a loose task: use dispatch.kit.tasks (Nursery, each, running)",
    r"\basyncio\.wait_for\(": "asyncio.wait_for loses cancellations on 3.11: use asyncio.timeout",
    r"\basyncio\.sleep\(|\btime\.sleep\(": "a sleep outside kit: take a Clock",
    r"\bdatetime\.now\(|\bdatetime\.utcnow\(|\btime\.time\(|\btime\.monotonic\(": "a wall clock outside kit: take a Clock",
    r"\brandom\.|\bsecrets\.|\buuid4\(|\buuid1\(": "chance outside kit: use dispatch.kit.ids",
}


@pytest.mark.parametrize("pattern", BANNED, ids=list(BANNED.values()))
def test_time_chance_and_tasks_come_from_kit(pattern: str) -> None:
    # The supervisor is a program of its own around the workers: processes, signals and their deadlines are its subject.
    exempt = {PACKAGE / "supervisor.py"}
    for path in modules("dispatch"):
        if owner(path) == "kit" or path in exempt:
            continue
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            assert not re.search(pattern, line.split("#")[0]), f"{path}:{number} {BANNED[pattern]}"


def test_the_only_wall_clock_in_rules_is_the_library_that_checks_tokens() -> None:
    for path in modules("dispatch"):
        if path.stem == "rules":
            assert "clock" not in [name.split(".")[-1] for _, name in imports(path)], f"{path}: time is an argument"


def test_sql_stands_in_sql_files() -> None:
    # doctor and start ask a server what it is before there is a schema to speak of.
    exempt = {PACKAGE / "doctor.py", PACKAGE / "start.py"}
    word = re.compile(r"^\s*(SELECT|INSERT INTO|UPDATE|DELETE FROM|WITH)\s", re.IGNORECASE)
    for path in modules("dispatch"):
        if path in exempt or owner(path) == "kit":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and word.match(node.value):
                raise AssertionError(f"{path}:{node.lineno} SQL in a string: name it in queries.sql")


def test_no_room_is_called_after_nothing() -> None:
    for path in modules("dispatch", "protocol", "bench", "tests"):
        for part in (path.stem, *path.relative_to(ROOT).parts):
            assert part not in {"utils", "util", "helpers", "helper", "common", "manager", "misc"}, (
                f"{path}: say what it is"
            )


def test_files_fit_on_a_few_screens() -> None:
    for path in modules("dispatch", "protocol", "bench"):
        lines = path.read_text(encoding="utf-8").count("\n")
        assert lines <= 600, f"{path} has {lines} lines: find the second thing that it does"


def test_every_slice_says_what_it_promises() -> None:
    for folder in sorted(PACKAGE.iterdir()):
        if folder.is_dir() and folder.name in SLICES | DOORS:
            doc = ast.get_docstring(ast.parse((folder / "__init__.py").read_text(encoding="utf-8")))
            assert doc and len(doc) > 80, f"{folder}: __init__.py opens with the promise of the slice"


def test_nothing_names_a_registry_or_a_machines_path() -> None:
    hosts = re.compile("|".join(["pypi" + r"\.org", "python" + r"hosted\.org", "registry" + r"\.npmjs"]))
    for path in [
        *modules("dispatch", "protocol", "bench", "tests"),
        ROOT / "requirements.lock",
        ROOT / "Makefile",
        ROOT / "README.md",
    ]:
        assert not hosts.search(path.read_text(encoding="utf-8")), (
            f"{path} names a registry: an index is the machine's setting"
        )


def test_nothing_is_frozen_once_there_may_be_sockets() -> None:
    """gc.freeze() each minute kept every socket that was open then for ever: 10 KiB for each, once it had closed."""
    freezing = [path.name for path in modules("dispatch") if "gc.freeze()" in path.read_text(encoding="utf-8")]
    assert freezing == ["app.py"], "freeze at the start only: what is alive later must be collectable when it ends"
