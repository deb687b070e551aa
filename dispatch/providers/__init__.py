"""Providers: registration, the status machine, and the gate: may this one work, is he on?

The truth is Postgres (`providers`, `provider_gate`). The gate row is the first lock of every change of status or intent and
the first read of every accept. Documents and vehicles feed it: whatever changes them judges the gate again (`cleared`) in the same
transaction, so that going online, candidates, the board and accepts all read one answer.
"""

from dispatch.providers.errors import (
    AlreadyBusy,
    DocumentsIncomplete,
    NotApproved,
    ProviderMissing,
    Suspended,
    VehicleRequired,
)
from dispatch.providers.model import ProviderState
from dispatch.providers.rules import check_may_work, judged
from dispatch.providers.seed import seed
from dispatch.providers.service import Providers, updated
from dispatch.providers.store import (
    check_application,
    check_papers,
    cleared,
    free_uid,
    lack_of,
    lock_gate,
    online_set,
    state_of_user,
    status_set,
    suspension_cause,
)

__all__ = [
    "AlreadyBusy",
    "DocumentsIncomplete",
    "NotApproved",
    "ProviderMissing",
    "ProviderState",
    "Providers",
    "Suspended",
    "VehicleRequired",
    "check_application",
    "check_may_work",
    "check_papers",
    "cleared",
    "free_uid",
    "judged",
    "lack_of",
    "lock_gate",
    "online_set",
    "seed",
    "state_of_user",
    "status_set",
    "suspension_cause",
    "updated",
]
