"""How `bench/data/sf/` was made: `python -m bench.demo.extract SOURCE TARGET --date 2008-05-23`.

Copies the lines of one day's peak and of the hours around it, unchanged and in their order, out of the files
of a whole day. Packed without a time stamp, so that the same source gives the same bytes.
"""

import argparse
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.demo.recording import find, instant, peak, read_requests, rows


def lines(file: Path, columns: int, keep: Callable[[list[str]], bool]) -> Iterator[str]:
    """The header and the kept lines, as they stand."""
    with gzip.open(file, "rt", encoding="utf-8") as source:
        yield next(source).rstrip("\n")
    for cells in rows(file, columns):
        if keep(cells):
            yield ",".join(cells)


def write(file: Path, text: Iterator[str]) -> int:
    """Pack `text` into `file`; its size in bytes."""
    packed = gzip.compress(("\n".join(text) + "\n").encode(), compresslevel=9, mtime=0)
    file.write_bytes(packed)
    return len(packed)


def extract(source: Path, target: Path, date: str, before_s: float, after_s: float) -> dict[str, int]:
    """The three files of `date` from `before_s` before its peak to `after_s` after its beginning; sizes by name."""
    start = peak([request.at for request in read_requests(source, date)])
    first, last = instant(start - before_s), instant(start + after_s)
    target.mkdir(parents=True, exist_ok=True)

    def at(column: int) -> Callable[[list[str]], bool]:
        return lambda cells: first <= cells[column] <= last

    wanted = {"requests": (5, at(0)), "traces": (4, at(1)), "occupied": (3, at(1))}
    return {
        kind: write(target / f"{kind}_{date}.csv.gz", lines(find(source, kind, date), columns, keep))
        for kind, (columns, keep) in wanted.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="the folder with the whole day")
    parser.add_argument("target", type=Path, help="the folder for the extract")
    parser.add_argument("--date", default="2008-05-23")
    parser.add_argument("--before-s", type=float, default=3600, help="seconds before the peak begins (default: 3600)")
    parser.add_argument("--after-s", type=float, default=4 * 3600, help="seconds after it begins (default: 14400)")
    args = parser.parse_args()
    for kind, size in extract(args.source, args.target, args.date, args.before_s, args.after_s).items():
        print(f"{kind}: {size:,} bytes")


if __name__ == "__main__":
    main()
