"""The server's stamps: when the COMMIT of each offer had returned, written by its workers while they run."""

from pathlib import Path

from bench.demo.tally import read_stamps


class Stamps:
    """Reads on where it stopped. One file per worker: `PATH.SLOT`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read: dict[Path, int] = {}
        self.by_offer: dict[str, int] = {}

    def read_on(self) -> dict[str, int]:
        """What is new since the last call; all of it is in `by_offer`. A torn last line waits for its end."""
        fresh: dict[str, int] = {}
        for file in sorted(self._path.parent.glob(f"{self._path.name}.*")):
            with file.open("rb") as lines:
                lines.seek(self._read.get(file, 0))
                text = lines.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._read[file] = self._read.get(file, 0) + len(whole)
            fresh |= read_stamps(whole.decode().splitlines(keepends=True))
        self.by_offer |= fresh
        return fresh
