"""Models of the inbox's statements: numbers and events, marks, sockets, workers; and the request ids."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from bench.simulation.judge.statements import models
from bench.simulation.judge.tables import Row, Session, unique

Pending = tuple[UUID, str, bytes]


def head_of(db: Session, user_id: UUID) -> int:
    row = db.get("inbox_head", user_id)
    return 0 if row is None else int(row["seq"])


def events_of(db: Session, user_id: UUID) -> list[Row]:
    """A user's events, oldest first. One row of the model's table holds them all."""
    row = db.get("events", user_id)
    return [] if row is None else row["rows"]


def append_pending(db: Session, facts: Sequence[Pending]) -> list[Row]:
    """inbox_append: heads by user id, numbers inside the transaction."""
    numbered: list[Row] = []
    for user_id, name, body in sorted(facts, key=lambda fact: fact[0]):
        db.lock("inbox_head", user_id)
        seq = head_of(db, user_id) + 1
        db.put("inbox_head", user_id, {"user_id": user_id, "seq": seq})
        fact = {"user_id": user_id, "seq": seq, "name": name, "body": body, "at": db.now}
        db.put("events", user_id, {"rows": [*events_of(db, user_id), fact]})
        numbered.append(fact)
    return numbered


@models("inbox", "append")
def append(db: Session, users: Sequence[UUID], names: Sequence[str], bodies: Sequence[bytes]) -> list[Row]:
    return append_pending(db, list(zip(users, names, bodies, strict=True)))


@models("inbox", "head")
def head(db: Session, user_id: UUID) -> Row:
    newest = head_of(db, user_id)
    kept = events_of(db, user_id)
    epoch = db.get("history", True)
    assert epoch is not None
    return {"epoch": epoch["epoch"], "newest": newest, "floor": kept[0]["seq"] - 1 if kept else newest}


@models("inbox", "heads_beyond")
def heads_beyond(db: Session, users: Sequence[UUID], sent: Sequence[int]) -> list[Row]:
    return [
        {"user_id": user_id, "seq": seq}
        for user_id, known in zip(users, sent, strict=True)
        if (seq := head_of(db, user_id)) > known
    ]


@models("inbox", "after")
def after(db: Session, user_id: UUID, seq: int, upto: int, limit: int) -> list[Row]:
    return [fact for fact in events_of(db, user_id) if seq < fact["seq"] <= upto][:limit]


def acked_of(db: Session, user_id: UUID) -> int:
    row = db.get("inbox_marks", user_id)
    return 0 if row is None else int(row["acked_seq"])


@models("inbox", "repeat")
def repeat(db: Session, user_id: UUID, seq: int, upto: int, limit: int) -> list[Row]:
    return after(db, user_id, max(seq, acked_of(db, user_id)), upto, limit)  # type: ignore[no-any-return]


@models("inbox", "acked")
def acked(db: Session, user_id: UUID) -> int:
    return acked_of(db, user_id)


@models("inbox", "mark_acked")
def mark_acked(db: Session, users: Sequence[UUID], seqs: Sequence[int]) -> None:
    for user_id, seq in zip(users, seqs, strict=True):
        db.lock("inbox_marks", user_id)
        db.put("inbox_marks", user_id, {"user_id": user_id, "acked_seq": max(seq, acked_of(db, user_id))})


# --- sockets and workers


@models("inbox", "socket_open")
def socket_open(
    db: Session, user_id: UUID, device: str, attempt: int, worker_id: str, conn_id: UUID, devices: int
) -> Row:
    db.lock("socket", user_id)
    said: Row = {"word": "open", "victims": [], "victim_workers": [], "victim_codes": []}
    oldest_beat = db.now - timedelta(seconds=10)

    def victim(socket: Row, code: int) -> None:
        said["victims"].append(socket["conn_id"])
        said["victim_workers"].append(socket["worker_id"])
        said["victim_codes"].append(code)

    living = [
        socket
        for socket in db.all("sockets")
        if socket["user_id"] == user_id
        and socket["lost_at"] is None
        and (worker := db.get("workers", socket["worker_id"])) is not None
        and worker["beat_at"] > oldest_beat
    ]
    living.sort(key=lambda socket: socket["connected_at"])
    for socket in living:
        if socket["device"] == device:
            if attempt <= socket["attempt"]:
                return {**said, "word": "stale"}
            victim(socket, 4409)
    others = [socket for socket in reversed(living) if socket["device"] != device]
    for socket in others[devices - 1 :]:
        victim(socket, 4410)
        db.change("sockets", (user_id, socket["device"]), lost_at=db.now)
    key = (user_id, device)
    db.lock("sockets", key)
    opened = {"attempt": attempt, "worker_id": worker_id, "conn_id": conn_id, "connected_at": db.now, "lost_at": None}
    db.put("sockets", key, {"user_id": user_id, "device": device, **opened})
    return said


@models("inbox", "socket_lost")
def socket_lost(db: Session, conn_ids: Sequence[UUID], worker_id: str) -> None:
    wanted = set(conn_ids)
    for socket in db.all("sockets"):
        if socket["conn_id"] in wanted and socket["lost_at"] is None and socket["worker_id"] == worker_id:
            db.change("sockets", (socket["user_id"], socket["device"]), lost_at=db.now)


@models("inbox", "sockets_of_worker")
def sockets_of_worker(db: Session, worker_id: str) -> list[Row]:
    return [
        {"conn_id": socket["conn_id"]}
        for socket in db.all("sockets")
        if socket["worker_id"] == worker_id and socket["lost_at"] is None
    ]


@models("inbox", "sockets_why")
def sockets_why(
    db: Session, conn_ids: Sequence[UUID], users: Sequence[UUID], devices: Sequence[str], allowed: Sequence[int]
) -> list[Row]:
    return [
        {"conn_id": asked[0], "code": _why(db, *asked)} for asked in zip(conn_ids, users, devices, allowed, strict=True)
    ]


def _why(db: Session, conn_id: UUID, user_id: UUID, device: str, allowed: int) -> int:
    own = db.get("sockets", (user_id, device))
    if own is not None and own["conn_id"] != conn_id:
        return 4409
    others = [
        socket
        for socket in db.all("sockets")
        if socket["user_id"] == user_id
        and socket["device"] != device
        and socket["lost_at"] is None
        and (own is None or socket["connected_at"] >= own["connected_at"])
    ]
    return 4410 if len(others) >= allowed else 1012


@models("inbox", "worker_beat")
def worker_beat(db: Session, worker_id: str) -> None:
    db.lock("workers", worker_id)
    known = db.get("workers", worker_id)
    started = db.now if known is None else known["started_at"]
    db.put("workers", worker_id, {"id": worker_id, "started_at": started, "beat_at": db.now})


@models("inbox", "worker_gone")
def worker_gone(db: Session, worker_id: str) -> None:
    if db.get("workers", worker_id) is not None:
        db.drop("workers", worker_id)
    for socket in db.all("sockets"):
        if socket["worker_id"] == worker_id and socket["lost_at"] is None:
            db.change("sockets", (socket["user_id"], socket["device"]), lost_at=db.now)


@models("inbox", "workers_dead")
def workers_dead(db: Session) -> int:
    oldest = db.now - timedelta(seconds=10)
    lost = 0
    for worker in db.all("workers"):
        if worker["beat_at"] >= oldest:
            continue
        db.drop("workers", worker["id"])
        for socket in db.all("sockets"):
            if socket["worker_id"] == worker["id"] and socket["lost_at"] is None:
                db.change("sockets", (socket["user_id"], socket["device"]), lost_at=worker["beat_at"])
                lost += 1
    return lost


# --- request ids


@models("accounts", "idem_begin")
def idem_begin(db: Session, user_id: UUID, key: str, fingerprint: str) -> Row:
    db.require(user_id)
    said: Row = {"word": "new", "status": None, "response": None}
    if not db.lock("request", (user_id, key), skip=True):
        return {**said, "word": "running"}
    known = db.get("idem", (user_id, key))
    if known is None:
        return said
    if known["fingerprint"] != fingerprint:
        return {**said, "word": "reused"}
    return {"word": "replay", "status": known["status"], "response": known["response"]}


@models("accounts", "idem_finish")
def idem_finish(db: Session, user_id: UUID, key: str, fingerprint: str, status: int, response: str) -> None:
    db.lock("idem", (user_id, key))
    if db.get("idem", (user_id, key)) is not None:
        raise unique("idem_pkey")
    row = {"fingerprint": fingerprint, "status": status, "response": response, "at": db.now}
    db.put("idem", (user_id, key), {"user_id": user_id, "key": key, **row})


@models("audit", "write")
def audit_write(db: Session, own_id: UUID, *fields: Any) -> None:
    db.require()
    db.put("audit", own_id, {"id": own_id, "fields": fields})
