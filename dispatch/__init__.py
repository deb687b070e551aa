"""The dispatch server: offers to the right providers within milliseconds, exactly one winner, nothing lost."""

__version__ = "0.1.0"
