"""An event loop with too much to do."""

import time


def stand_still(seconds: float) -> None:
    """As a loop does that has too much to do."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
