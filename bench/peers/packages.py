"""Node and the packages of its peers: found or said to be missing; installed once, outside of this tree."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable
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
    digest = hashlib.sha256(b"".join((SOURCES / name).read_bytes() for name in _LISTS)).hexdigest()[:12]
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(base) / "dispatch-bench" / f"peers-{digest}"


def node_version(node: str) -> str:
    """Such as `20.20.2`. Raises NoNode."""
    try:
        said = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        raise NoNode(f"{node} does not run: {error}") from error
    return said.strip().removeprefix("v")


def ready(say: Callable[[str], None]) -> tuple[str, Path, str]:
    """(node, folder of the servers with their packages, node's version), installed if this is the first run. Raises NoNode.

    The servers are copied beside their packages each time, since Node looks for packages from where a file lies.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        missing = "node" if node is None else "npm"
        raise NoNode(f"{missing} is not installed: install Node.js {NODE_MIN} or newer with npm to measure its peers")
    version = node_version(node)
    if int(version.partition(".")[0]) < NODE_MIN:
        raise NoNode(f"Node.js {version} is too old: {NODE_MIN} or newer is needed")
    folder = cache_folder()
    folder.mkdir(parents=True, exist_ok=True)
    for file in SOURCES.iterdir():
        if file.suffix in (".js", ".json"):
            draft = folder / f".{file.name}.{os.getpid()}"
            shutil.copyfile(file, draft)
            draft.replace(folder / file.name)
    if not (folder / "installed").exists():
        say(f"installing the Node peers' packages into {folder}")
        _install(npm, folder)
    return node, folder, version


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
