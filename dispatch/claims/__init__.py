"""The accept race: many may say yes, exactly one gets the job.

Postgres judges (`accept_job`, one statement, lock first and read later). The Redis claim in front of it only keeps most racers
away from the judge: everything here holds with it switched off, flushed or lying. The fencing token is `jobs.round`.
"""

from dispatch.claims.model import Accepted
from dispatch.claims.service import Claims

__all__ = ["Accepted", "Claims"]
