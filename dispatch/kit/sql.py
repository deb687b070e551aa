"""Queries live in `queries.sql` beside the store that runs them: named, described, typed."""

import re
from pathlib import Path

_HEAD = re.compile(r"^-- name: (?P<name>[a-z_]+) :(?P<kind>one|many|exec|value)\s*$", re.MULTILINE)


class Queries:
    """The queries of one file by name: `QUERIES["job_lock"]`. Unknown names fail at import of the store that asks."""

    def __init__(self, path: Path) -> None:
        self.path = path
        text = path.read_text(encoding="utf-8")
        heads = list(_HEAD.finditer(text))
        self._texts: dict[str, str] = {}
        for head, following in zip(heads, [*heads[1:], None], strict=True):
            name = head["name"]
            if name in self._texts:
                raise ValueError(f"{path}: two queries are named {name}")
            self._texts[name] = text[head.end() : following.start() if following else None].strip().rstrip(";")

    @classmethod
    def beside(cls, module_file: str) -> "Queries":
        """The `queries.sql` in the folder of `module_file` (pass `__file__`)."""
        return cls(Path(module_file).with_name("queries.sql"))

    def __getitem__(self, name: str) -> str:
        return self._texts[name]

    def items(self) -> list[tuple[str, str]]:
        """(name, text) of every query, in the file's order: for the test that prepares them all."""
        return list(self._texts.items())
