"""Performance: what became of a provider's offers, as rates, warnings and a dashboard.

The truth is Postgres (`offers`, `job_events`): rates are counted from what was offered and what happened, never from how jobs stand now. What a
provider reads of himself is counted when he asks; what the office reads of everybody comes from days (`performance_days`) that one worker at
a time counts again every few minutes, and says of when it is.
"""

from dispatch.performance.aggregates import Aggregates
from dispatch.performance.service import Performances

__all__ = ["Aggregates", "Performances"]
