"""Who is on, where he is, and who is near.

A position's truth is the memory of the worker that holds the provider's socket; Redis holds what searches need (geo sets of the
free, last fixes, reservations) and is rebuilt from the workers' memory within a tick of its coming back. Nothing here promises
anything to a person: an offer is judged by Postgres when it is made.
"""

from dispatch.presence.errors import LocationRequired, Offline
from dispatch.presence.model import Candidate, Live, Move, Near
from dispatch.presence.service import Presence

__all__ = ["Candidate", "Live", "LocationRequired", "Move", "Near", "Offline", "Presence"]
