"""The history of a server without faults, to be broken by hand."""

import random

from bench.faults.checkers import S
from bench.faults.history import (
    Balance,
    Entry,
    Final,
    History,
    Job,
    Offer,
    Op,
    Step,
    Told,
)
from bench.faults.standing import Standing

MS = 1_000_000


class Ideal:
    """A server without faults, one step after the other; its clients see each step somewhere between their call and its answer."""

    def __init__(self, seed: int, *, jobs: int = 4, people: int = 5) -> None:
        self.dice = random.Random(seed)
        self.now = 1_000 * S
        self.people = [f"p{number}" for number in range(people)]
        self.history = History(final=Final(at=0))
        self.numbers: dict[str, int] = {}
        self.key = 0
        for number in range(jobs):
            self.life(f"j{number}")
        self.suspension()
        self.rest()

    def tick(self) -> int:
        self.now += self.dice.randrange(1, 400) * MS
        return self.now

    def op(self, kind: str, user: str, word: str, **given: object) -> None:
        """Done now: asked a little before, answered a little later."""
        self.key += 1
        ahead, behind = self.dice.randrange(1, 300) * MS, self.dice.randrange(1, 300) * MS
        self.history.ops.append(
            Op(at=self.now - ahead, done=self.now + behind, client=f"{user}/phone", user=user, kind=kind, key=f"k{self.key}", word=word, **given)  # type: ignore[arg-type]
        )  # fmt: skip

    def step(self, job: str, was: str, to: str, round: int, actor: str = "", role: str = "system") -> None:
        version = sum(row.job == job for row in self.history.final.steps) + 1
        self.history.final.steps.append(
            Step(job=job, version=version, was=was, to=to, round=round, actor=actor, role=role, at=self.now)
        )

    def tell(self, user: str, name: str, job: str = "", offer: str = "") -> None:
        seq = self.numbers[user] = self.numbers.get(user, 0) + 1
        found = f"{user}:{seq}:{name}:{job}{offer}"
        self.history.final.events.setdefault(user, []).append((seq, found))
        self.history.final.standings.setdefault(user, []).append(
            f"jobs-{user}-{seq} {'provider' if seq > 1 else '-'} offer-{user}-{seq}=content"
        )
        self.history.told.append(
            Told(at=self.now + MS, client=f"{user}/phone", user=user, socket="s", kind="event", seq=seq, name=name, job=job, offer=offer, digest=found)
        )  # fmt: skip

    def greet(self, user: str) -> None:
        if user not in self.numbers:
            self.numbers[user] = 0
            self.history.told.append(
                Told(
                    at=self.now,
                    client=f"{user}/phone",
                    user=user,
                    socket="s",
                    kind="snapshot",
                    seq=0,
                    digest=Standing().digest,
                )
            )
            if user in self.people:
                self.tick()
                self.op("online", user, "ok")
                self.now += 300 * MS

    def life(self, job: str) -> None:
        customer = f"c-{job}"
        for user in (customer, *self.people):
            self.greet(user)
        self.tick()
        self.op("create", customer, "ok", job=job, answer=job)
        self.step(job, "", "pending", 0, customer, "customer")
        self.tell(customer, "job.created", job)
        status, holder, round = "pending", "", 0
        for round in range(1, self.dice.randrange(2, 4)):
            self.tick()
            self.step(job, status, "offered", round)
            status, holder = "offered", ""
            asked = self.dice.sample(self.people, 3)
            opened = self.now
            winner = asked[0]
            self.tick()
            for user in asked:
                won = user == winner
                self.history.final.offers.append(
                    Offer(id=f"{job}/{round}/{user}", job=job, round=round, user=user, status="accepted" if won else "withdrawn", at=opened, expires=opened + 15 * S, responded=self.now)
                )  # fmt: skip
                self.tell(user, "offer.created", job, f"{job}/{round}/{user}")
            self.op("accept", winner, "ok", job=job, round=round, told_round=round, answer=f"{job}:{winner}")
            self.step(job, status, "accepted", round, winner, "provider")
            self.tell(customer, "job.accepted", job)
            status, holder = "accepted", winner
            self.now += 700 * MS  # so that the losers ask after the winner has had his job for sure
            for loser in asked[1:]:
                self.op("accept", loser, "accepted", job=job, round=round)
            self.refused(job, round, winner, asked)
        for to in ("arrived", "in_progress", "completed"):
            self.tick()
            self.op("advance", holder, "ok", job=job, to=to)
            self.step(job, status, to, round, holder, "provider")
            status = to
        self.now += 700 * MS
        self.op("advance", holder, "INVALID_STATUS_TRANSITION", job=job, to="completed", says="completed")
        self.op("cancel", customer, "INVALID_STATUS_TRANSITION", job=job, says="completed")
        self.tick()
        self.history.final.jobs.append(
            Job(id=job, status=status, round=round, version=sum(row.job == job for row in self.history.final.steps), customer=customer, holder=holder)
        )  # fmt: skip
        for account, amount in (("clearing", -100), (f"wallet {holder}", 100)):
            self.history.final.entries.append(
                Entry(transaction=f"t-{job}", kind="earning", account=account, currency="THB", amount=amount, job=job)
            )

    def anew(self, user: str) -> None:
        """He starts from a snapshot."""
        seq = self.numbers[user]
        held = self.history.final.standings[user][seq - 1]
        self.history.told.append(
            Told(at=self.now, client=f"{user}/phone", user=user, socket="s2", kind="snapshot", seq=seq, digest=held)
        )

    def refused(self, job: str, round: int, winner: str, asked: list[str]) -> None:
        """What the others are told, and the winner of other jobs, while he has this one."""
        stranger = next(user for user in self.people if user not in asked)
        self.op("accept", winner, "PROVIDER_HAS_ACTIVE_JOB", job=f"another than {job}")
        self.op("accept", stranger, "OFFER_NOT_FOUND", job=job, offer=f"{job}/{round}/{winner}")
        self.op("accept", stranger, "JOB_NOT_FOUND", job=f"none like {job}")
        self.op("advance", asked[1], "JOB_NOT_FOUND", job=job, to="arrived")
        self.op("cancel", asked[2], "FORBIDDEN", job=job)
        self.op("advance", winner, "INVALID_STATUS_TRANSITION", job=job, to="completed", says="accepted")
        self.now += 300 * MS

    def suspension(self) -> None:
        """One is suspended and let in again; another is switched off by the server, because his phone was gone; a third is shut out."""
        self.tick()
        self.op("suspend", "admin", "ok", target="p0")
        self.tell("p0", "provider.updated")
        self.now += 20 * S
        self.history.told.append(Told(at=self.now, client="p0/phone", user="p0", socket="s", kind="welcome"))
        self.op("accept", "p0", "PROVIDER_SUSPENDED", job="elsewhere")
        self.op("online", "p0", "PROVIDER_SUSPENDED")
        self.now += 700 * MS
        self.op("reinstate", "admin", "ok", target="p0")
        self.now += S
        self.op("accept", "p0", "PROVIDER_OFFLINE", job="elsewhere")
        self.now += S
        self.op("online", "p0", "ok")
        self.now += S
        self.history.final.shifts_ended["p1"] = [self.now]
        self.now += S
        self.op("accept", "p1", "PROVIDER_OFFLINE", job="elsewhere")
        self.now += S
        self.op("online", "p1", "ok")
        self.now += S
        self.op("block", "admin", "ok", target="p2")
        self.now += 20 * S
        self.op("accept", "p2", "FORBIDDEN", job="elsewhere")
        self.op("cancel", "p2", "FORBIDDEN", job="j0")
        self.now += S
        self.op("unblock", "admin", "ok", target="p2")
        self.now += S

    def rest(self) -> None:
        self.anew("p0")
        final = self.history.final
        final.at = self.now + 10 * S
        final.paid = True
        final.heads = dict(self.numbers)
        held: dict[str, int] = {}
        for entry in final.entries:
            held[entry.account] = held.get(entry.account, 0) + entry.amount
        final.balances = [
            Balance(account=name, currency="THB", amount=amount, floor=0 if name.startswith("wallet") else None)
            for name, amount in held.items()
        ]
        final.applied = {f"{user}/phone": seq for user, seq in self.numbers.items()}
