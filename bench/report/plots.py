"""The pictures: latency by share of requests, and cost by size. Drawn by matplotlib, without a screen."""

import os
import statistics
import tempfile
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import TYPE_CHECKING, Final

from bench.report.results import Curve, Scaling, Unreadable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NINES: Final = (0.0, 0.5, 0.9, 0.99, 0.999, 0.9999)
LAST: Final = 0.99999
"""Where the maximum stands: a share of all has no place on an axis of nines."""
SIZE: Final = (8.0, 4.5)
DPI: Final = 110


def _figure() -> "tuple[Figure, Axes]":
    """An empty picture. Raises Unreadable when there is nothing to draw with."""
    # Else it keeps a list of fonts in somebody's home.
    os.environ.setdefault("MPLCONFIGDIR", tempfile.mkdtemp(prefix="dispatch-plots-"))
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as error:
        raise Unreadable("matplotlib is missing: `make setup` installs it, or pip install -e '.[bench]'") from error
    figure = Figure(figsize=SIZE, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.grid(True, which="major", alpha=0.3)
    return figure, axes


def _png(figure: "Figure") -> bytes:
    # No date and no version inside: the same figures give the same bytes.
    out = BytesIO()
    figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
    return out.getvalue()


def nines(share: float) -> float:
    """Where a share of requests stands on the axis: one step for each nine. Pure."""
    return 1.0 / (1.0 - min(share, LAST))


def latency(title: str, curves: Mapping[str, Curve]) -> bytes:
    """A PNG: what so many requests did not exceed, both axes logarithmic."""
    figure, axes = _figure()
    for name, curve in curves.items():
        axes.plot(
            [nines(share) for share, _ in curve], [max(value, 0.001) for _, value in curve], marker=".", label=name
        )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks([nines(share) for share in (*NINES, 1.0)])
    axes.set_xticklabels([*(f"{share * 100:g} %" for share in NINES), "max"])
    axes.minorticks_off()
    axes.set_xlabel("share of all")
    axes.set_ylabel("ms")
    axes.set_title(title)
    axes.legend(fontsize="small")
    return _png(figure)


def scaling(title: str, lines: Sequence[Scaling]) -> bytes:
    """A PNG: medians by size, with bars from the least to the most where a size was measured more than once. One unit for all."""
    figure, axes = _figure()
    for line in lines:
        sizes = sorted(line.points)
        middle = [statistics.median(line.points[size]) for size in sizes]
        below = [value - min(line.points[size]) for size, value in zip(sizes, middle, strict=True)]
        above = [max(line.points[size]) - value for size, value in zip(sizes, middle, strict=True)]
        axes.errorbar(sizes, middle, yerr=(below, above), marker="o", capsize=3, label=line.of)
    if max(size for line in lines for size in line.points) >= 10 * min(size for line in lines for size in line.points):
        axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel(lines[0].by)
    axes.set_ylabel(lines[0].unit)
    axes.set_title(title)
    axes.legend(fontsize="small")
    return _png(figure)
