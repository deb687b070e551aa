"""Redis keys of the inbox. A user's keys carry his tag, so one function touches one slot."""

from uuid import UUID


def copy(user_id: UUID) -> str:
    """Stream: the newest 512 event frames, ids `seq-0`. TTL 24 h. Written by inbox_push, rebuilt from Postgres."""
    return f"{{u:{user_id}}}:in"


def meta(user_id: UUID) -> str:
    """Hash {epoch, top}: which history the copy belongs to and its newest seq. TTL and writer as the copy's."""
    return f"{{u:{user_id}}}:m"


def wake(user_id: UUID) -> str:
    """Sharded channel: hand-over of new event frames to the workers that hold this user's sockets."""
    return f"{{u:{user_id}}}:ev"


def user_of(channel: str) -> UUID:
    """Whose channel this is: the inverse of `wake`."""
    return UUID(channel[3:39])


def orders(worker_id: str) -> str:
    """Sharded channel: orders to one worker («close connection …») and what its subscription says to itself."""
    return f"{{w:{worker_id}}}:do"
