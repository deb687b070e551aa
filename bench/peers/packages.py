"""Node and the packages of its peers: found or said to be missing; installed once, outside of this tree."""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

SOURCES: Final = Path(__file__).parent / "node"
NODE_MIN: Final = 20
INSTALL_WITHIN_S: Final = 300.0
_LISTS: Final = ("package.json", "package-lock.json")


class NoNode(Exception):
    """The Node peers cannot run here. The message says why and what to do."""


def cache_folder() -> Path:
    """Where packages are kept, by XDG_CACHE_HOME; another folder for other versions of them."""
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "dispatch-bench" / f"peers-{_digest([SOURCES / name for name in _LISTS])}"


def _digest(files: Sequence[Path]) -> str:
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]


def node_version(node: str) -> str:
    """Such as `20.20.2`. Raises NoNode."""
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NoNode(f"{node} does not run: {error}") from error
    return said.strip().removeprefix("v")


def ready(say: Callable[[str], None]) -> tuple[str, Path, str]:
    """(node, folder of the servers, node's version), with packages installed if this is the first run. Raises NoNode.

    Node looks for packages from where a file lies upwards, so the servers are copied below their packages; into a folder of their
    own for each version, since another checkout may be running others.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing = "node" if node is None else "npm"
        raise NoNode(f"{missing} is not installed: install Node.js {NODE_MIN} or newer with npm to measure its peers")
    version = node_version(node)
    if int(version.partition(".")[0]) < NODE_MIN:
        raise NoNode(f"Node.js {version} is too old: {NODE_MIN} or newer is needed")
    folder = cache_folder()
    sources = sorted(SOURCES.glob("*.js"))
    servers = folder / f"servers-{_digest(sources)}"
    servers.mkdir(parents=True, exist_ok=True)
    _copy([SOURCES / name for name in _LISTS], folder)
    _copy(sources, servers)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # npm clears the folder first: two at once would leave neither
        if not (folder / "installed").exists():
            say(f"installing the Node peers' packages into {folder}")
            _install(npm, folder)
    return node, servers, version


def _copy(files: Sequence[Path], folder: Path) -> None:
    """Whole files only, whoever reads them meanwhile."""
    for file in files:
        draft = folder / f".{file.name}.{os.getpid()}"
        shutil.copyfile(file, draft)
        draft.replace(folder / file.name)


def _install(npm: str, folder: Path) -> None:
    command = [npm, "ci", "--omit=dev", "--ignore-scripts", "--no-audit", "--no-fund"]
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=INSTALL_WITHIN_S, check=False
        )
    except subprocess.TimeoutExpired:
        raise NoNode(f"npm ci took over {INSTALL_WITHIN_S:.0f} s in {folder}") from None
    if done.returncode != 0:
        tail = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        raise NoNode(f"npm ci failed in {folder}:\n{tail}")
    (folder / "installed").touch()
