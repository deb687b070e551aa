"""Papers against code: tables that people read say what programs do."""

import re
from pathlib import Path

from dispatch.settings import Settings
from protocol.lifecycle import LEGAL, Actor

ROOT = Path(__file__).resolve().parents[2]


def test_the_readme_lists_every_setting_with_its_default_and_sentence() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = {
        row[0]: row for row in re.findall(r"^\| `DISPATCH_([A-Z0-9_]+)` \| (.*?) \| (.*) \|$", text, flags=re.MULTILINE)
    }
    assert set(rows) == {name.upper() for name in Settings.model_fields}
    for name, field in Settings.model_fields.items():
        assert rows[name.upper()][2] == field.description, f"{name}: the README says something else"
        if isinstance(field.default, int | float) and not isinstance(field.default, bool):
            assert float(rows[name.upper()][1]) == float(field.default), name


def test_the_lifecycle_page_shows_the_legal_edges() -> None:
    text = (ROOT / "docs" / "lifecycle.md").read_text(encoding="utf-8")
    rows = set(re.findall(r"^\| ([a-z_]+) \| ([a-z_]+) \| ([a-z, ]+) \|$", text, flags=re.MULTILINE)) - {
        ("from", "to", "by")
    }
    assert rows == {
        (str(a), str(b), ", ".join(actor for actor in Actor if actor in who)) for (a, b), who in LEGAL.items()
    }
    drawn = set(re.findall(r"^  ([a-z_]+) --> ([a-z_]+)", text, flags=re.MULTILINE))
    assert drawn == {(str(a), str(b)) for a, b in LEGAL}


def test_what_papers_point_to_exists() -> None:
    for paper in [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")]:
        for target in re.findall(r"\]\(([^)#]+)\)", paper.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (paper.parent / target).exists(), f"{paper.name} points to {target}"


def test_the_driver_in_the_readme_is_about_twenty_lines_of_python_that_compile() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    compile(code, "README.md", "exec")
    assert len([line for line in code.splitlines() if line.strip()]) <= 34
