"""Whether there is anything to read in what somebody wrote."""

import unicodedata

_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")
"""Letters and signs by their category, and nothing to see by their shape: Hangul fillers, the empty braille cell."""


def blank(text: str | None) -> bool:
    """Nothing, or only blanks, controls and the invisible."""
    return all(unicodedata.category(sign)[0] in "ZC" or sign in _INVISIBLE for sign in text or "")
