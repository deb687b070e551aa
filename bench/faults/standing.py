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
        """Digests of 16 hex digits, with blanks between: of all jobs; of the provider, "-" where nothing is known of him; then ID=DIGEST of each
        offer.
        """
        of_provider = "-" if self.provider is None else digest("", self.provider)
        offers = [f"{offer_id}={digest('', offer)}" for offer_id, offer in sorted(self.offers.items())]
        return " ".join([digest("", sorted(self.jobs.items())), of_provider, *offers])


def standings(events: Iterable[tuple[str, Said]]) -> list[str]:
    """The digest after each of a user's events, which begin at number 1."""
    standing = Standing()
    found = []
    for name, data in events:
        standing.apply(name, data)
        found.append(standing.digest)
    return found


def left_out(shown: str, held: str) -> frozenset[str] | None:
    """The offers that a snapshot leaves out of what the events before it have led to; None: it shows something else. Of a provider of whom
    they say nothing it may say anything.
    """
    jobs, provider, *offers = shown.split(" ")
    held_jobs, held_provider, *held_offers = held.split(" ")
    if jobs != held_jobs or held_provider not in ("-", provider) or not set(offers) <= set(held_offers):
        return None
    return frozenset(one.partition("=")[0] for one in set(held_offers) - set(offers))
