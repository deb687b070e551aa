"""What a person was promised to be told, in order and without gaps, until his device says it has it.

The truth is `events(user_id, seq)` in Postgres: outbox and inbox in one. Redis holds a copy of the newest 512 per user and
carries hand-overs between workers; both are hints. A worker asks `inbox_head` about its own users every two seconds (every
half second while Redis is away), so a lost hint costs two seconds and never an event.
"""

from dispatch.inbox.model import Fact, Greeting, Line, Seat, State
from dispatch.inbox.service import RELAY_EVERY_S, Inbox
from dispatch.inbox.store import append, collected, facts_of, pending

__all__ = [
    "RELAY_EVERY_S",
    "Fact",
    "Greeting",
    "Inbox",
    "Line",
    "Seat",
    "State",
    "append",
    "collected",
    "facts_of",
    "pending",
]
