"""docs/matching.md says what the kept rows say."""

from pathlib import Path

from bench.matching import page

ROOT = Path(__file__).parents[2]


def test_the_page_is_what_the_rows_say() -> None:
    text = page.text(ROOT / "bench" / "results" / "matching")
    assert (ROOT / "docs" / "matching.md").read_text(encoding="utf-8") == text, (
        "python -m bench simulate --page docs/matching.md"
    )
