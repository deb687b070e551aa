"""How figures are said on the page."""

from collections.abc import Callable, Sequence

from bench.matching.intervals import Found


def verdict(found: Found, bound: float) -> str:
    """Met or missed where the whole interval is on that side."""
    below = found.below(bound)
    if below is None:
        return "unsure" if found.low is not None else "not judged"
    return "met" if below else "**missed**"


def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """In Markdown."""
    rule = "|".join(" --- " for _ in head)
    return "\n".join(f"| {' | '.join(line)} |" for line in (head, *lines)).replace("\n", f"\n|{rule}|\n", 1) + "\n"


def with_bounds(found: Found, shown: Callable[[float], str]) -> str:
    """A value and, where there are any, its bounds."""
    if found.value != found.value:
        return "-"
    if found.low is None or found.high is None:
        return shown(found.value)
    return f"{shown(found.value)} [{shown(found.low)}, {shown(found.high)}]"


def ratio(value: float) -> str:
    """How much more than 1, in percent."""
    return f"{100 * (value - 1):+.1f} %"


def points(value: float) -> str:
    """Percentage points."""
    return f"{100 * value:+.1f}"
