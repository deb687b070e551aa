"""A door that leads nowhere and remembers who went through: for tests and demonstrations."""

from dispatch.notifications.model import Message


class Recording:
    """`refuse_with` is raised instead of taking the next messages, one after the other."""

    def __init__(self) -> None:
        self.taken: list[Message] = []
        self.refuse_with: list[Exception] = []

    async def send(self, message: Message) -> None:
        if self.refuse_with:
            raise self.refuse_with.pop(0)
        self.taken.append(message)

    async def close(self) -> None:
        return None
