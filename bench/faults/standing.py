"""What a phone shows that keeps a snapshot and applies the events after it: the rules of the protocol, and nothing it was told besides."""

from collections.abc import Iterable, Mapping
from typing import Any

from bench.faults.history import digest
from protocol.lifecycle import FINAL

Said = Mapping[str, Any]


class Standing:
    """A user's jobs and offers, by id, and who he is as a provider (None: no event has said it yet)."""

    def __init__(self, provider: Said | None = None, jobs: Iterable[Said] = (), offers: Iterable[Said] = ()) -> None:
        self.provider = provider
        self.jobs: dict[str, Said] = {str(job["id"]): job for job in jobs}
        self.offers: dict[str, Said] = {str(offer["offer_id"]): offer for offer in offers}

    def apply(self, name: str, data: Said) -> None:
        """The next event."""
        match name:
            case "provider.updated":
                self.provider = data["provider"]
            case "offer.created":
                self.offers[str(data["offer_id"])] = data
            case "offer.withdrawn":
                self.offers.pop(str(data["offer_id"]), None)
            case "job.created" | "job.accepted" | "job.updated" | "job.completed":
                job = data["job"]
                if job["status"] in FINAL:
                    self.jobs.pop(str(job["id"]), None)
                else:
                    self.jobs[str(job["id"])] = job
            case "job.cancelled":
                self.jobs.pop(str(data["job"]["id"]), None)

    @property
    def digest(self) -> str:
        """Two digests of 16 hex digits: of all jobs and offers, and of the provider; the second is empty where nothing is known of him."""
        of_jobs = digest("", [sorted(self.jobs.items()), sorted(self.offers.items())])
        return f"{of_jobs} {'' if self.provider is None else digest('', self.provider)}"


def standings(events: Iterable[tuple[str, Said]]) -> list[str]:
    """The digest after each of a user's events, which begin at number 1."""
    standing = Standing()
    found = []
    for name, data in events:
        standing.apply(name, data)
        found.append(standing.digest)
    return found


def same(shown: str, held: str) -> bool:
    """Whether a snapshot shows what the events before it have led to. Of a provider of whom they say nothing it may say anything."""
    of_jobs, _, of_provider = held.partition(" ")
    return shown.partition(" ")[0] == of_jobs and (not of_provider or shown.partition(" ")[2] == of_provider)
