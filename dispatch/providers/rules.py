"""What a provider may become, and whether he may work."""

from dispatch.kit.errors import IllegalTransition, ReasonRequired
from dispatch.kit.words import blank
from dispatch.providers.errors import NotApproved, Suspended
from protocol.lifecycle import MAY_WORK, AdminAction, ProviderStatus, provider_may

_GOAL = {
    AdminAction.APPROVE: ProviderStatus.APPROVED,
    AdminAction.REJECT: ProviderStatus.REJECTED,
    AdminAction.SUSPEND: ProviderStatus.SUSPENDED,
    AdminAction.REACTIVATE: ProviderStatus.APPROVED,
}


def judged(status: ProviderStatus, action: AdminAction, reason: str | None) -> ProviderStatus:
    """The status that `action` leads to. Raises: IllegalTransition, ReasonRequired (reject and suspend need one)."""
    goal = _GOAL[action]
    # Approval and reactivation end in the same status; each is legal from its own side only.
    wrong_door = (action is AdminAction.REACTIVATE) != (
        status is ProviderStatus.SUSPENDED
    ) and goal is ProviderStatus.APPROVED
    if wrong_door or not provider_may(status, goal):
        raise IllegalTransition(f"{action} from {status}", status=status, action=action)
    if action in (AdminAction.REJECT, AdminAction.SUSPEND) and blank(reason):
        raise ReasonRequired(f"{action} needs a reason")
    return goal


def check_may_work(status: ProviderStatus) -> None:
    """Raises: Suspended, NotApproved."""
    if status is ProviderStatus.SUSPENDED:
        raise Suspended("suspended", status=status)
    if status not in MAY_WORK:
        raise NotApproved(f"status is {status}", status=status)
