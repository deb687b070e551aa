"""Sentences for people, out of gettext catalogues: what happened, in the person's language.

`catalogues/<locale>/LC_MESSAGES/notices.po` is what translators edit; it is compiled when it is first needed. A message is known by
`<type>.<part>`. Parts: `title`; `body`; `body.bare` for when a value is missing that `body` names; `out` what leaves by e-mail or SMS where
that holds a secret which the stored text must not. Placeholders are names in braces, and what they stand for is never read as a template.
"""

import re
import unicodedata
from collections.abc import Mapping
from functools import cache
from gettext import GNUTranslations
from io import BytesIO
from pathlib import Path
from typing import Final

from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_currency, format_decimal, get_currency_precision

from dispatch.notifications.model import Plain
from protocol.notices import NoticeType

LOCALES: Final = ("th", "en", "ar")
DEFAULT: Final = "th"
TITLE_MAX: Final = 120
BODY_MAX: Final = 600

_FOLDER = Path(__file__).with_name("catalogues")
_PLACEHOLDER = re.compile(r"{([a-z_]+)}")
_VALUE_MAX = 200
_EXACT_MAX = 2000
_NUMBER_MAX = 1e15
_COUNTED = "days"
_WORDS: Final[Mapping[str, str]] = {"document_type": "document_type", "status": "job_status", "reason": "reason"}
"""Values that are words of the wire, and the family of their translations. A word without one is shown as it is."""
_EXACT = frozenset({"link", "code", "address"})
"""Values that are copied or tapped: nothing may be put around them."""
_FIRST_STRONG, _END = "\u2068", "\u2069"


def text_of(kind: NoticeType, locale: str, data: Mapping[str, Plain]) -> tuple[str, str]:
    """(title, body) in this language; Thai for one that we do not have."""
    values = _values(data, locale)
    title = _said(f"{kind}.title", locale, values, data) or str(kind)
    body = _said(f"{kind}.body", locale, values, data) or _said(f"{kind}.body.bare", locale, values, data) or ""
    return _cut(title, TITLE_MAX), _cut(body, BODY_MAX)


def text_out(
    kind: NoticeType, locale: str, data: Mapping[str, Plain], secrets: Mapping[str, str]
) -> tuple[str, str] | None:
    """(title, body) with its secrets, for the moment of sending. None: the secrets do not fill the sentence."""
    values = _values({**data, **secrets}, locale)
    title = _said(f"{kind}.title", locale, values, data)
    body = _said(f"{kind}.out", locale, values, data)
    return None if title is None or body is None else (_cut(title, TITLE_MAX), body)


def has_secret(kind: NoticeType) -> bool:
    """Whether what is sent holds more than what is stored."""
    return _template(f"{kind}.out", DEFAULT, None) is not None


@cache
def catalogue(locale: str) -> GNUTranslations:
    """Compiled once per process. Raises: FileNotFoundError."""
    compiled = BytesIO()
    with open(_FOLDER / locale / "LC_MESSAGES" / "notices.po", "rb") as file:
        write_mo(compiled, read_po(file, locale=locale, abort_invalid=True))
    compiled.seek(0)
    return GNUTranslations(compiled)


def _template(message: str, locale: str, count: int | None) -> str | None:
    texts = catalogue(locale if locale in LOCALES else DEFAULT)
    found = message if count is None else texts.ngettext(message, message, count)
    if found == message:
        found = texts.gettext(message)
    return None if found == message else found


def _said(message: str, locale: str, values: Mapping[str, str], data: Mapping[str, Plain]) -> str | None:
    """The sentence; None if there is none, or a value is missing for it."""
    count = data.get(_COUNTED)
    template = _template(message, locale, count if isinstance(count, int) and not isinstance(count, bool) else None)
    if template is None or not {name for name in _PLACEHOLDER.findall(template)} <= values.keys():
        return None
    return _PLACEHOLDER.sub(lambda found: values[found[1]], template)


def _values(data: Mapping[str, Plain], locale: str) -> dict[str, str]:
    """What placeholders stand for, cleaned; without those that have no value."""
    values: dict[str, str] = {}
    spoken = locale if locale in LOCALES else DEFAULT
    for name, value in data.items():
        if value is None:
            continue
        shown = _clean(str(value), _EXACT_MAX if name in _EXACT else _VALUE_MAX)
        if name in _WORDS and isinstance(value, str):
            shown = _template(f"{_WORDS[name]}.{shown}", spoken, None) or shown
        elif isinstance(value, bool) or (isinstance(value, int | float) and not abs(value) < _NUMBER_MAX):
            pass  # not a number that a sentence is made for: shown as it is
        elif name == _COUNTED and isinstance(value, int):
            shown = format_decimal(value, locale=spoken)
        elif name == "distance_m" and isinstance(value, int | float):
            name, shown = "distance_km", format_decimal(round(value / 1000, 1), locale=spoken)
        elif name.endswith("_minor") and isinstance(value, int):
            name, shown = name.removesuffix("_minor"), _money(value, data.get("currency"), spoken)
        if not shown:
            continue
        if spoken == "ar" and name not in _EXACT:
            # A Latin name or a plate inside a sentence from the right keeps its own direction, and the sentence its order.
            shown = f"{_FIRST_STRONG}{shown}{_END}"
        values[name] = shown
    return values


def _money(minor: int, currency: Plain, locale: str) -> str:
    if not isinstance(currency, str) or not re.fullmatch("[A-Z]{3}", currency):
        return ""
    return format_currency(minor / 10 ** get_currency_precision(currency), currency, locale=locale)


def _clean(value: str, most: int) -> str:
    """One line, bounded, without characters that steer: a value ends up in subjects, and may come from anybody."""
    plain = "".join(" " if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") else c for c in value[: 4 * most])
    plain = "".join(c for c in plain if not ("\u202a" <= c <= "\u202e" or "\u2066" <= c <= "\u2069"))
    return _cut(" ".join(plain.split()), most)


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"
