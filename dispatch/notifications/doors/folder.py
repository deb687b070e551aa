"""Doors of a laptop: each message is a file that a person can open."""

import asyncio
import os
from pathlib import Path
from uuid import UUID

from dispatch.kit.clock import Clock
from dispatch.notifications.doors.letter import letter
from dispatch.notifications.model import Message


class MailFolder:
    """`<id>.eml` in a folder. Sent again, a message replaces itself."""

    def __init__(self, folder: Path, *, sender: str, clock: Clock) -> None:
        self._folder = folder
        self._sender = sender
        self._clock = clock

    async def send(self, message: Message) -> None:
        text = letter(message, sender=self._sender, at=self._clock.now()).as_bytes()
        await asyncio.to_thread(_put, self._folder, message.id, ".eml", text)

    async def close(self) -> None:
        return None


class SmsFolder:
    """`<id>.txt` in a folder: the number, an empty line, the text."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def send(self, message: Message) -> None:
        await asyncio.to_thread(_put, self._folder, message.id, ".txt", f"{message.to}\n\n{message.body}\n".encode())

    async def close(self) -> None:
        return None


def _put(folder: Path, name: UUID, suffix: str, content: bytes) -> None:
    """Whoever lists the folder sees whole files only. They may hold codes and links: for their owner's eyes."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    part = folder / f".{name}{suffix}.part"
    with open(part, "wb", opener=lambda path, flags: os.open(path, flags, 0o600)) as file:
        file.write(content)
    part.replace(folder / f"{name}{suffix}")
