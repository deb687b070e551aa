"""Every type says something in every language, whatever the values are."""

import re
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from babel.messages.pofile import read_po
from hypothesis import given, settings
from hypothesis import strategies as st

from dispatch.notifications import texts
from dispatch.notifications.doors.letter import letter
from dispatch.notifications.model import Message
from dispatch.notifications.rules import CHANNELS
from dispatch.notifications.texts import BODY_MAX, LOCALES, TITLE_MAX, catalogue, text_of, text_out
from protocol.lifecycle import JobStatus
from protocol.notices import Channel, NoticeType

WORDS: dict[str, Any] = {
    "reason": "the photo is blurred", "document_type": "driver_license", "days": 7, "job_id": str(uuid4()), "status": "arrived",
    "offer_id": str(uuid4()), "distance_m": 1234, "fare_minor": 13550, "amount_minor": 50000, "currency": "THB", "passenger_name": "Ann",
    "ticket_id": str(uuid4()), "subject": "My payout", "provider_uid": "PRV-1", "vehicle": "1กก 234", "score": 5, "name": "Friday Quest",
}  # fmt: skip
SECRETS = {"link": "https://a.test/verify?token=abc", "address": "a@test.invalid", "code": "123456"}
HOSTILE = [
    "<script>alert(1)</script>", "a\r\nBcc: evil@test.invalid\r\n\r\nbody", "😀👩‍👩‍👧", "100% %s %(x)s %d", "{reason} {0} {__class__} {days!r}",
    "\u202etxt.exe\u2066", "مرحبا", "สวัสดี", "x" * 5000, "\x00\x07", " ", "", "'; DROP TABLE users; --", "\\n\\", "&amp;\u2028x",
]  # fmt: skip
DOCUMENT_TYPES = (
    "national_id driver_license vehicle_registration vehicle_insurance bank_account criminal_record health_certificate"
)


def po(locale: str) -> Any:
    with open(texts._FOLDER / locale / "LC_MESSAGES" / "notices.po", "rb") as file:
        return read_po(file, locale=locale, abort_invalid=True)


def names_in(message: Any) -> list[set[str]]:
    said = message.string if isinstance(message.string, tuple) else (message.string,)
    return [set(re.findall(r"{(\w+)}", one)) for one in said]


def test_the_catalogues_have_the_same_messages_with_the_same_names() -> None:
    books = {locale: {message.id: message for message in po(locale) if message.id} for locale in LOCALES}
    assert books["th"].keys() == books["en"].keys() == books["ar"].keys()
    for key, message in books["en"].items():
        for locale in LOCALES:
            other = books[locale][key]
            assert all(other.string if isinstance(other.string, tuple) else [other.string]), (locale, key)
            wanted = set.union(*names_in(message))
            for names in names_in(other):
                # A form for exactly one or two may write the number as a word.
                assert wanted - {"days"} <= names <= wanted, (locale, key)
            for text in other.string if isinstance(other.string, tuple) else [other.string]:
                assert not re.search(r"%[a-z(]", text) and text.count("{") == len(re.findall(r"{[a-z_]+}", text)), (
                    locale,
                    key,
                )


@pytest.mark.parametrize("locale", LOCALES)
def test_every_type_has_a_title_and_a_body_with_and_without_its_values(locale: str) -> None:
    for kind in NoticeType:
        for data in (WORDS, {}, dict.fromkeys(WORDS)):
            title, body = text_of(kind, locale, data)
            assert title and body and title != str(kind), (kind, locale)
            assert "{" not in title + body and len(title) <= TITLE_MAX and len(body) <= BODY_MAX
        secret = text_out(kind, locale, {}, SECRETS)
        assert (secret is not None) == (
            kind in (NoticeType.EMAIL_VERIFICATION, NoticeType.PHONE_VERIFICATION, NoticeType.PASSWORD_RESET)
        )
        assert text_out(kind, locale, {}, {}) is None
    assert SECRETS["link"] in text_out(NoticeType.EMAIL_VERIFICATION, locale, {}, SECRETS)[1]  # type: ignore[index]
    assert SECRETS["code"] in text_out(NoticeType.PHONE_VERIFICATION, locale, {}, SECRETS)[1]  # type: ignore[index]


@pytest.mark.parametrize("locale", LOCALES)
def test_words_of_the_wire_are_translated(locale: str) -> None:
    for kind in DOCUMENT_TYPES.split():
        assert kind not in text_of(NoticeType.DOCUMENT_APPROVED, locale, {"document_type": kind})[1]
    for status in JobStatus:
        _, body = text_of(NoticeType.JOB_STATUS_CHANGED, locale, {"status": status})
        assert "_" not in body and (locale == "en" or str(status) not in body)
    assert "no_provider" not in text_of(NoticeType.JOB_CANCELLED, locale, {"reason": "no_provider"})[1]
    assert "brand new" in text_of(NoticeType.JOB_STATUS_CHANGED, locale, {"status": "brand new"})[1]


@pytest.mark.parametrize("locale", LOCALES)
@pytest.mark.parametrize("hostile", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_values_stay_values(locale: str, hostile: str) -> None:
    data = {name: hostile if isinstance(value, str) else value for name, value in WORDS.items()}
    for kind in NoticeType:
        title, body = text_of(kind, locale, data)
        assert len(title) <= TITLE_MAX and len(body) <= BODY_MAX
        for text in (title, body):
            assert not re.search(r"[\x00-\x1f\u2028\u2029\u202a-\u202e]", text), (kind, text)
        mail = letter(
            Message(uuid4(), "a@test.invalid", title, body, locale),
            sender="b@test.invalid",
            at=datetime(2026, 1, 1, tzinfo=UTC),
        )
        assert mail["Bcc"] is None and "\n" not in str(mail["Subject"])
        html = mail.get_body(("html",)).get_content()  # type: ignore[union-attr]
        assert "<script>" not in html and "<a " not in html


@settings(max_examples=300, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(sorted(WORDS)),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-(2**53), 2**53),
            st.text(max_size=40),
            st.floats(allow_nan=False, allow_infinity=False, width=32),
        ),
    ),
    st.sampled_from([*NoticeType]),
    st.sampled_from([*LOCALES, "fr", ""]),
)
def test_any_plain_values_make_a_sentence(data: dict[str, Any], kind: NoticeType, locale: str) -> None:
    title, body = text_of(kind, locale, data)
    assert 0 < len(title) <= TITLE_MAX and 0 < len(body) <= BODY_MAX
    assert not re.search(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\ud800-\udfff]", title + body)


@pytest.mark.parametrize(
    ("days", "words"), [(0, "اليوم"), (1, "يوم واحد"), (2, "يومين"), (3, "أيام"), (11, "يوما"), (100, "يوم.")]
)
def test_arabic_has_six_ways_to_count_days(days: int, words: str) -> None:
    said = {
        n: text_of(NoticeType.DOCUMENT_EXPIRING, "ar", {"days": n, "document_type": "national_id"})[1]
        for n in (0, 1, 2, 3, 11, 100)
    }
    assert words in said[days] and len(set(said.values())) == 6


def test_english_and_thai_count_days() -> None:
    data = {"document_type": "national_id"}
    assert "in 1 day." in text_of(NoticeType.DOCUMENT_EXPIRING, "en", {**data, "days": 1})[1]
    assert "in 30 days." in text_of(NoticeType.DOCUMENT_EXPIRING, "en", {**data, "days": 30})[1]
    assert "30 วัน" in text_of(NoticeType.DOCUMENT_EXPIRING, "th", {**data, "days": 30})[1]


def test_an_unknown_language_reads_thai() -> None:
    assert text_of(NoticeType.ACCOUNT_REACTIVATED, "fr", {}) == text_of(NoticeType.ACCOUNT_REACTIVATED, "th", {})


def test_money_is_written_with_the_decimals_of_its_currency() -> None:
    for currency, shown in (("THB", "135.50"), ("JPY", "13,550"), ("KWD", "13.550")):
        assert (
            shown
            in text_of(NoticeType.JOB_AVAILABLE, "en", {"distance_m": 1, "fare_minor": 13550, "currency": currency})[1]
        )


def test_approval_goes_by_push_and_mail_and_rejection_tells_the_reason() -> None:
    """Feature: provider-system-redesign, Property 37 and 38, as far as tables go."""
    assert set(CHANNELS[NoticeType.APPLICATION_APPROVED]) == {Channel.PUSH, Channel.EMAIL}
    for locale in LOCALES:
        assert "blurred" in text_of(NoticeType.APPLICATION_REJECTED, locale, WORDS)[1]
    assert set(CHANNELS) == set(NoticeType)


def test_catalogues_are_compiled_once() -> None:
    assert catalogue("ar") is catalogue("ar")
