"""Providers: registration, the status machine, and the gate: may this one work, is he on?

The truth is Postgres (`providers`, `provider_gate`). The gate row is the first lock of every change of status or intent and
the first read of every accept. Documents and vehicles will feed it; until they exist, an admin's approval does.
"""

from dispatch.providers.errors import NotApproved, ProviderMissing, Suspended
from dispatch.providers.model import ProviderState
from dispatch.providers.rules import check_may_work, judged
from dispatch.providers.seed import seed
from dispatch.providers.service import Providers
from dispatch.providers.store import lock_gate, online_set, state_of_user, status_set

__all__ = [
    "NotApproved",
    "ProviderMissing",
    "ProviderState",
    "Providers",
    "Suspended",
    "check_may_work",
    "judged",
    "lock_gate",
    "online_set",
    "seed",
    "state_of_user",
    "status_set",
]
