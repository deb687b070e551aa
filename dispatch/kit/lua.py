"""Redis functions from files. One operation per file; its header is its contract and is checked against its body.

A header names the function, its keys, its arguments and its answers:

    --[[
      claim: what it does, in sentences.
      KEYS[1] …
      ARGV[1] …
      returns …
    ]]
"""

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent.parent
_HEADER = re.compile(r"\A--\[\[\n(?P<text>.*?)\n\]\]\n(?P<body>.*)\Z", re.DOTALL)
_NAME = re.compile(r"^\s*(?P<name>[a-z_]+): ")
_SLOT = re.compile(r"\b(KEYS|ARGV)\[(\d+)\]")
_REST = re.compile(r"\b(KEYS|ARGV)\[(\d+)\.\.\]")


class BadScript(ValueError):
    """A Lua file whose header and body disagree."""


@dataclass(frozen=True, slots=True)
class Script:
    name: str
    path: Path
    body: str

    @property
    def library(self) -> str:
        """The text for FUNCTION LOAD: a library of one function, named as the file."""
        return (
            f"#!lua name=dispatch_{self.name}\n"
            f"redis.register_function('{self.name}', function(KEYS, ARGV)\n{self.body}\nend)\n"
        )


def parse(path: Path) -> Script:
    """Read one file. Raises BadScript with the file and what disagrees."""
    text = path.read_text(encoding="utf-8")
    match = _HEADER.match(text)
    if match is None:
        raise BadScript(f"{path}: it must begin with a --[[ header ]]")
    named = _NAME.match(match["text"])
    if named is None or named["name"] != path.stem:
        raise BadScript(f"{path}: the header must begin with «{path.stem}: »")
    if "returns " not in match["text"]:
        raise BadScript(f"{path}: the header does not say what it returns")
    told, used = set(_SLOT.findall(match["text"])), set(_SLOT.findall(match["body"]))
    open_ended = dict(_REST.findall(match["text"]))
    for kind, number in used - told:
        if kind not in open_ended or int(number) < int(open_ended[kind]):
            raise BadScript(f"{path}: the body reads {kind}[{number}], which the header does not name")
    for kind, number in told - used:
        raise BadScript(f"{path}: the header names {kind}[{number}], which the body never reads")
    return Script(path.stem, path, match["body"])


@cache
def scripts(root: Path = _PACKAGE) -> tuple[Script, ...]:
    """All scripts of all slices below `root` (the package), by name."""
    found = tuple(sorted((parse(path) for path in root.glob("*/lua/*.lua")), key=lambda script: script.name))
    names = [script.name for script in found]
    if len(set(names)) != len(names):
        raise BadScript(f"two Lua functions share a name: {names}")
    return found
