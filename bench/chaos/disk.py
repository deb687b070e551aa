"""A small disk of the run's own, that can be full: a tmpfs in a mount namespace of this process and its children.

The namespace ends with them, so nothing stays mounted whatever happens. Without root, the whole command runs again inside a user
namespace in which it may mount.
"""

import ctypes
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

SIZE_MIB = 4096
LEFT_BYTES = 96 * 1024
_CLONE_NEWNS = 0x00020000
_MS_REC, _MS_PRIVATE, _MS_REMOUNT = 0x4000, 0x40000, 0x20
_AGAIN = "DISPATCH_BENCH_NAMESPACE"
TRIES = 20


class NoDisk(RuntimeError):
    """There can be no disk of our own here; the text says why."""


def again_in_a_namespace(command: Sequence[str]) -> None:
    """Without root: become `command` in a user namespace in which we may mount. Returns where that is needless or impossible."""
    if os.geteuid() == 0 or os.environ.get(_AGAIN) or sys.platform != "linux":
        return
    unshare = shutil.which("unshare")
    if unshare is None:
        return
    probe = subprocess.run([unshare, "-rm", "true"], capture_output=True, check=False)
    if probe.returncode == 0:
        os.environ[_AGAIN] = "1"
        os.execv(unshare, [unshare, "-rm", "--", *command])


class Disk:
    """The tmpfs at `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @classmethod
    def mounted(cls, folder: Path) -> "Disk":
        """Mount it, for us and our children alone. Raises NoDisk."""
        if sys.platform != "linux" or os.geteuid() != 0:
            raise NoDisk("mounting a tmpfs needs root, or user namespaces (unshare -rm)")
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(_CLONE_NEWNS) != 0:
            raise NoDisk(f"no mount namespace: {os.strerror(ctypes.get_errno())}")
        if libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) != 0:
            raise NoDisk(f"mounts cannot be made private: {os.strerror(ctypes.get_errno())}")
        folder.mkdir(mode=0o700, exist_ok=True)
        options = f"size={SIZE_MIB}m,mode=0700".encode()
        if libc.mount(b"tmpfs", os.fsencode(folder), b"tmpfs", 0, options) != 0:
            raise NoDisk(f"no tmpfs: {os.strerror(ctypes.get_errno())}")
        return cls(folder)

    def fill(self) -> None:
        """Leave next to nothing. Raises NoDisk."""
        for _ in range(TRIES):
            found = os.statvfs(self.folder)
            used = (found.f_blocks - found.f_bfree) * found.f_frsize
            if self._sized(used + LEFT_BYTES):
                return
        raise NoDisk("the tmpfs cannot be made smaller")

    def free(self) -> None:
        """All of it again."""
        self._sized(SIZE_MIB * 2**20)

    def _sized(self, size: int) -> bool:
        libc = ctypes.CDLL(None, use_errno=True)
        options = f"size={size}".encode()
        return bool(libc.mount(b"tmpfs", os.fsencode(self.folder), b"tmpfs", _MS_REMOUNT, options) == 0)
