import pytest

from protocol.errors import OFFLINE_TEXT, ONLINE_TEXT, CloseCode, ErrorCode, reconnect_policy, status_of, text_of


@pytest.mark.parametrize("code", ErrorCode)
def test_every_code_has_a_status_and_a_sentence_in_both_languages(code: ErrorCode) -> None:
    assert 400 <= status_of(code) <= 503
    assert any("\u0e00" <= letter <= "\u0e7f" for letter in text_of(code))
    assert text_of(code, "en").isascii()


@pytest.mark.parametrize(
    ("code", "status"),
    [
        (ErrorCode.BUSY, 503),
        (ErrorCode.OUTSIDE_MARKET, 422),
        (ErrorCode.BAD_FRAME, 400),
        (ErrorCode.POSITION_REJECTED, 400),
        (ErrorCode.CLOCK_SKEW, 422),
        (ErrorCode.BODY_TOO_LARGE, 413),
        (ErrorCode.ORIGIN_REFUSED, 403),
        (ErrorCode.UNAUTHORIZED, 401),
        (ErrorCode.OFFER_NOT_FOUND, 404),
        (ErrorCode.METHOD_NOT_ALLOWED, 405),
        (ErrorCode.JOB_NOT_AVAILABLE, 409),
        (ErrorCode.RATE_LIMITED, 429),
        (ErrorCode.INTERNAL_ERROR, 500),
    ],
)
def test_a_code_answers_with_the_status_of_its_category(code: ErrorCode, status: int) -> None:
    assert status_of(code) == status


@pytest.mark.parametrize(
    ("code", "sentence"),
    [
        (ErrorCode.JOB_NOT_AVAILABLE, "งานนี้ถูกรับไปแล้ว"),
        (ErrorCode.PROVIDER_HAS_ACTIVE_JOB, "คุณมีงานที่กำลังทำอยู่แล้ว"),
        (ErrorCode.JOB_NOT_FOUND, "ไม่พบงานนี้"),
        (ErrorCode.PROVIDER_NOT_FOUND, "ไม่พบข้อมูลผู้ให้บริการ กรุณาสมัครก่อน"),
        (ErrorCode.PROVIDER_NOT_APPROVED, "บัญชียังไม่ได้รับการอนุมัติ กรุณารอ Admin ตรวจสอบ"),
        (ErrorCode.INSUFFICIENT_BALANCE, "ยอดเงินในกระเป๋าไม่เพียงพอสำหรับการถอน"),
        (ErrorCode.INTERNAL_ERROR, "เกิดข้อผิดพลาดภายในระบบ"),
        (ErrorCode.UNKNOWN_ERROR, "เกิดข้อผิดพลาด กรุณาลองใหม่อีกครั้ง"),
    ],
)
def test_sentences_that_the_requirements_give_are_word_for_word(code: ErrorCode, sentence: str) -> None:
    assert text_of(code, "th") == sentence


def test_the_toggle_speaks_thai() -> None:
    assert (ONLINE_TEXT["th"], OFFLINE_TEXT["th"]) == ("เปิดรับงานแล้ว", "ปิดรับงานแล้ว")


@pytest.mark.parametrize(
    ("locale", "english"), [("en", True), ("en-GB", True), ("EN", True), ("th", False), ("de", False)]
)
def test_whatever_is_not_english_reads_thai(locale: str, english: bool) -> None:
    assert text_of(ErrorCode.NOT_FOUND, locale).isascii() is english


@pytest.mark.parametrize(
    ("code", "policy"),
    [
        (1001, "yes"),
        (1012, "yes"),
        (1009, "no"),
        (4413, "no"),
        (4400, "no"),
        (4401, "new_token"),
        (4403, "no"),
        (4408, "yes"),
        (4409, "no"),
        (4410, "user"),
        (4429, "yes"),
    ],
)
def test_a_close_code_says_whether_to_come_back(code: int, policy: str) -> None:
    assert reconnect_policy(code) == CloseCode(code).reconnect == policy


def test_the_table_of_close_codes_is_whole() -> None:
    assert {code.value for code in CloseCode} == {1001, 1012, 1009, 4413, 4400, 4401, 4403, 4408, 4409, 4410, 4429}


@pytest.mark.parametrize("code", [None, 1000, 1006, 1011, 4999])
def test_a_lost_line_and_an_unknown_code_mean_come_back(code: int | None) -> None:
    assert reconnect_policy(code) == "yes"
