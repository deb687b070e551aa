"""Models of the statements of accounts that say who may come in: a user at first sight, who is shut out, and whose rights changed lately."""

from datetime import timedelta
from uuid import UUID

from bench.simulation.judge.statements import models
from bench.simulation.judge.tables import Row, Session

_LATELY = timedelta(hours=1)


@models("accounts", "user_ensure")
def user_ensure(
    db: Session,
    user_id: UUID,
    first_name: str | None,
    last_name: str | None,
    phone_number: str | None,
    email: str | None,
    verified: bool,
) -> Row:
    row = db.get("users", user_id)
    if row is None:
        names = {"first_name": first_name, "last_name": last_name, "phone_number": phone_number}
        row = db.put("users", user_id, names)
    return {"locale": "th", "blocked": row.get("blocked_at") is not None, "roles": None, "valid_after": None}


@models("accounts", "users_changed")
def users_changed(db: Session) -> list[Row]:
    since = db.now - _LATELY
    rights: Row = {"valid_after": None, "roles": None}
    return [
        {"id": user_id, "blocked": row.get("blocked_at") is not None, **rights}
        for user_id, row in db.pairs("users")
        if (at := row.get("access_at")) is not None and at > since
    ]


@models("accounts", "user_blocked_set")
def user_blocked_set(db: Session, user_id: UUID, blocked: bool, reason: str | None) -> Row:
    db.require()
    row = db.get("users", user_id)
    if row is None:
        return {"known": False, "before": None}
    db.lock("users", user_id)
    db.change("users", user_id, blocked_at=db.now if blocked else None, access_at=db.now)
    return {"known": True, "before": row.get("blocked_at") is not None}
