"""Starting and stopping a server as a child that does not outlive us, as a user that it accepts to run as."""

import asyncio
import ctypes
import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

STOP_GRACE_S = 15.0  # a quiet stop takes 0.1 s; a last checkpoint on a busy disk takes seconds
POLL_S = 0.01
PR_SET_PDEATHSIG = 1
LOG_TAIL_LINES = 8

Echo = Callable[[str], None]

# Loaded here and not in the child: between fork and exec hardly anything is safe.
_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True)
class RunAs:
    """As whom a program runs: a command prefix, or a user and group to change to. Empty: as ourselves."""

    prefix: tuple[str, ...] = ()
    uid: int | None = None
    gid: int | None = None


OURSELVES = RunAs()


def not_root() -> RunAs:
    """How to run a program that refuses to run as root, as Postgres does.

    First choice is a user namespace: the program sees another uid while all files stay root's, so nothing is
    chowned and a 0700 home is no obstacle. Where that is forbidden (Docker's default seccomp profile), the
    program becomes `postgres` or `nobody` and needs folders that this user can reach. EMBED_AS=userns|setuid
    insists on one of them. Raises LookupError with what is missing.
    """
    if os.geteuid() != 0:
        return OURSELVES
    wanted = os.environ.get("EMBED_AS", "auto")
    unshare = shutil.which("unshare") if sys.platform == "linux" else None
    if unshare and wanted in ("auto", "userns"):
        prefix = (unshare, "--user", "--map-user=1000", "--map-group=1000", "--")
        probe = subprocess.run([*prefix, "true"], capture_output=True, check=False, cwd="/")
        if probe.returncode == 0:
            return RunAs(prefix=prefix)
    if wanted in ("auto", "setuid"):
        for name in ("postgres", "nobody"):
            try:
                user = pwd.getpwnam(name)
            except KeyError:
                continue
            if user.pw_uid != 0:
                return RunAs(uid=user.pw_uid, gid=user.pw_gid)
    raise LookupError(
        f"it does not run as root, and there is neither a user namespace nor a user `postgres` or `nobody` (EMBED_AS={wanted})"
    )


def can(as_: RunAs, script: str, path: Path) -> bool:
    """Whether the user of `as_` gets through a line of shell in which `$1` is `path`."""
    probe = subprocess.run(
        [*as_.prefix, "/bin/sh", "-c", script, "sh", str(path)],
        user=as_.uid,
        group=as_.gid,
        extra_groups=None if as_.uid is None else [],
        capture_output=True,
        check=False,
        cwd="/",
    )
    return probe.returncode == 0


def clean_environment() -> dict[str, str]:
    """Our environment without what would change a server's mind."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LC_", "LANG"))}
    return kept | {"LC_ALL": "C", "TZ": "UTC"}


def popen(command: Sequence[str], *, as_: RunAs, log: Path, lock_fd: int, death_signal: int) -> subprocess.Popen[bytes]:
    """Start `command` in its own session, with the lock's descriptor, its output in `log`.

    Its own session, because Ctrl-C goes to the whole foreground group and would stop the servers before those
    who still write to them. On Linux the child gets `death_signal` when the *thread* that started it ends.
    """
    with log.open("wb") as output:
        return subprocess.Popen(
            [*as_.prefix, *command],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd="/",
            env=clean_environment(),
            start_new_session=True,
            pass_fds=(lock_fd,),
            # The child calls prctl and getppid only, both looked up beforehand: safe beside threads.
            preexec_fn=_die_with_parent(os.getpid(), death_signal),  # noqa: PLW1509
            user=as_.uid,
            group=as_.gid,
            extra_groups=None if as_.uid is None else [],
        )


def _die_with_parent(parent: int, death_signal: int) -> Callable[[], None] | None:
    if _libc is None:
        return None
    prctl = _libc.prctl

    def arrange() -> None:
        prctl(PR_SET_PDEATHSIG, death_signal, 0, 0, 0)
        if os.getppid() != parent:  # the parent died before we asked
            os._exit(1)

    return arrange


class Child:
    """One running server process."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], *, log: Path, stop_signal: int) -> None:
        self.name = name
        self.log = log
        self._process = process
        self._stop_signal = stop_signal

    @property
    def pid(self) -> int:
        """Its process id: also in a user namespace, where only user ids differ."""
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs."""
        return self._process.poll()

    async def finished(self, *, timeout_s: float) -> int | None:
        """Its exit code, or None when it still runs after `timeout_s`."""
        deadline = time.monotonic() + timeout_s
        while (code := self._process.poll()) is None and time.monotonic() < deadline:
            await asyncio.sleep(POLL_S)
        return code

    async def stop(self, echo: Echo) -> int:
        """Ask it to stop and wait; kill it when it does not. Cancelled in the middle, it is killed at once."""
        try:
            self._signal(self._stop_signal)
            if await self.finished(timeout_s=STOP_GRACE_S) is None:
                echo(f"{self.name} did not stop within {STOP_GRACE_S:.0f} s and is killed; see {self.log}")
        finally:
            self._signal(signal.SIGKILL)
            code = self._process.wait()
        if code not in (0, -self._stop_signal):
            echo(f"{self.name} ended with exit code {code}; see {self.log}")
        return code

    def last_words(self) -> str:
        """The end of its log, for an error message."""
        return tail(self.log)

    def _signal(self, number: int) -> None:
        if self._process.poll() is None:
            self._process.send_signal(number)


def tail(log: Path) -> str:
    """The last lines of a log file; a sentence when there are none."""
    try:
        lines = log.read_text(errors="replace").strip().splitlines()
    except OSError as error:
        return f"(no log: {error})"
    return "\n".join(lines[-LOG_TAIL_LINES:]) or "(it wrote nothing)"
