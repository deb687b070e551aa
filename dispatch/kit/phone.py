"""Phone numbers as they are kept."""


def e164(phone: str) -> str:
    """`0` and nine digits, or +66 and nine, as E.164 (the wire has validated it)."""
    return phone if phone.startswith("+") else "+66" + phone[1:]
