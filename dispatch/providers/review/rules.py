"""What an admin may say to a paper."""

from datetime import date

from dispatch.kit.errors import IllegalTransition, ReasonRequired
from dispatch.kit.words import blank
from dispatch.providers.review.errors import AlreadyVerified
from dispatch.providers.vehicles.model import VehicleRow
from protocol.papers import DocumentStatus, ReviewAction, VehicleStatus


def check_reason(action: ReviewAction, reason: str | None) -> str | None:
    """The reason to keep: of a rejection. Raises: ReasonRequired."""
    told = None if blank(reason) else (reason or "").strip()
    if action is ReviewAction.APPROVE:
        return None
    if told is None:
        raise ReasonRequired("a rejection needs a reason")
    return told


def judged_document(
    status: DocumentStatus, *, replaced: bool, expiry_date: date | None, today: date, action: ReviewAction
) -> DocumentStatus:
    """What the document becomes. Raises: AlreadyVerified, IllegalTransition (approving what has run out)."""
    if replaced or status is not DocumentStatus.PENDING:
        raise AlreadyVerified("the document does not wait", status="replaced" if replaced else str(status))
    if action is ReviewAction.REJECT:
        return DocumentStatus.REJECTED
    if expiry_date is not None and expiry_date < today:
        raise IllegalTransition(f"it has run out on {expiry_date}", status=str(status), expiry_date=str(expiry_date))
    return DocumentStatus.APPROVED


def judged_vehicle(row: VehicleRow, action: ReviewAction) -> VehicleStatus:
    """What the vehicle becomes. Raises: IllegalTransition."""
    if row.status is not VehicleStatus.PENDING:
        raise IllegalTransition(f"{action} from {row.status}", status=str(row.status))
    if action is ReviewAction.REJECT:
        return VehicleStatus.REJECTED
    if row.run_out:
        raise IllegalTransition("its registration or insurance has run out", status=str(row.status))
    return VehicleStatus.APPROVED
