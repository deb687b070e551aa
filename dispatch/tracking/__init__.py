"""The provider's way, live to the customer and kept for the fare.

A job's newest fix is this worker's memory and a lossy copy in Redis; only the customer of an active job is sent it. The trail
(metres and fixes of the trip) is summed here and written to the job's row at transitions and every 30 s.
"""

from dispatch.tracking.service import Tracking

__all__ = ["Tracking"]
