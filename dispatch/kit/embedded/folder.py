"""The folder of an embedded server: who may start on it, and where its socket lies."""

import fcntl
import os
import stat
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dispatch.kit.embedded.children import RunAs, can

# sun_path holds 108 bytes on Linux and 104 on macOS, one of them the final zero. The longest name is Postgres' own.
SOCKET_PATH_BYTES_MAX = 103
SOCKET_NAME_LONGEST = "/.s.PGSQL.5432"
AMBIGUOUS = frozenset(',"')  # a comma separates hosts in an address, a quote ends a setting


@dataclass(frozen=True, slots=True)
class Place:
    """Where the servers of one folder keep their things, and as whom Postgres runs there."""

    folder: Path
    sockets: Path
    as_: RunAs
    reachable: bool  # whether the user of `as_` may enter `folder`
    temporary: bool  # removed with everything that was put elsewhere


class FileLock:
    """An flock on one file, held by every process that inherited its descriptor.

    Two servers on one data folder destroy it (a second Valkey takes over the first one's socket and writes the same
    file), so the lock is passed to the server itself: it lives exactly as long as the server does, also when
    the process that started it was killed. Never unlock it: that would free it for all holders; only close.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd: int | None = None

    @property
    def fd(self) -> int:
        """The descriptor to pass to a child. Only while held."""
        if self._fd is None:
            raise RuntimeError(f"{self.path} is not locked by us")
        return self._fd

    def take(self) -> bool:
        """Take the lock if nobody has it; says whether it is ours now. Does not wait."""
        fd = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            return False
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd
        return True

    def is_free(self) -> bool:
        """Whether nobody held it a moment ago."""
        probe = FileLock(self.path)
        free = probe.take()
        probe.close()
        return free

    def close(self) -> None:
        """Let go of our own hold; a server that inherited the lock keeps it."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def settle(folder: Path, as_: RunAs, *, temporary: bool) -> Place:
    """`folder`, made if missing and then private, with the place of its sockets.

    Nobody's permissions are changed: what the user of `as_` cannot reach behind a 0700 folder is put elsewhere.
    """
    folder = folder.expanduser().resolve()
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    reachable = as_.uid is None or can(as_, 'cd "$1"', folder)
    return Place(folder, _sockets(folder, reachable=reachable), as_, reachable, temporary)


def _sockets(folder: Path, *, reachable: bool) -> Path:
    """Where the servers of `folder` put their sockets: `folder/run`, or a short one under the temporary folder.

    The second one where the first is too long (a Unix socket's path holds about a hundred bytes), has a letter
    that means something in an address, or is not `reachable` for the user that a server runs as. The place is
    written into `folder`, so that a second process that uses the same folder looks in the same place.
    """
    note = folder / "sockets"
    if note.exists() and _is_ours(known := Path(note.read_text().strip())):
        return known
    inside = folder / "run"
    if reachable and _fits(inside) and not set(str(inside)) & AMBIGUOUS:
        inside.mkdir(mode=0o700, exist_ok=True)
        inside.chmod(0o700)
        return inside
    made = Path(tempfile.mkdtemp(prefix="dispatch-"))
    if not _fits(made):
        made.rmdir()
        made = Path(tempfile.mkdtemp(prefix="dispatch-", dir="/tmp"))
    draft = note.with_name(f"sockets.{os.getpid()}")
    draft.write_text(f"{made}\n")
    note_was_stale = note.exists()
    try:
        if note_was_stale:
            draft.replace(note)
        else:
            os.link(draft, note)  # fails where another process was first: then its place counts
    except FileExistsError:
        made.rmdir()
        made = Path(note.read_text().strip())
    draft.unlink(missing_ok=True)
    return made


def _fits(folder: Path) -> bool:
    return len(os.fsencode(folder)) + len(SOCKET_NAME_LONGEST) <= SOCKET_PATH_BYTES_MAX


def _is_ours(folder: Path) -> bool:
    """Whether `folder` is a private folder of ours: /tmp belongs to everybody."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    # As root the folder may have been given to the user that Postgres runs as.
    owned = found.st_uid == os.geteuid() or os.geteuid() == 0
    return stat.S_ISDIR(found.st_mode) and owned and stat.S_IMODE(found.st_mode) == 0o700
