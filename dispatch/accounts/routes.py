"""HTTP door of accounts."""

from collections.abc import Sequence

import orjson

from dispatch.accounts.page import RESET_PAGE, VERIFY_PAGE
from dispatch.accounts.proofs import CODE_TTL_S
from dispatch.accounts.service import TICKET_TTL_S, Accounts
from dispatch.kit.phone import e164
from dispatch.kit.route import Answered, Call, Route
from protocol.errors import ErrorCode
from protocol.resources import Me, MePatch, Ticket
from protocol.resources.accounts import (
    Done,
    EmailResendRequest,
    EmailStatus,
    EmailVerifyRequest,
    ForgotRequest,
    PhoneCodeRequest,
    PhoneCodeSent,
    PhoneVerifyRequest,
    RefreshRequest,
    ResetRequest,
    SignedUp,
    SignInRequest,
    SignUpRequest,
    Tokens,
)

_DONE = Answered(b'{"success":true}')
# No parameter of ours holds a secret in a path, and the page reads its own: it stands in the document for readers only.
_LINK = {"token": "of the link; read by the page itself"}


def routes(accounts: Accounts) -> Sequence[Route]:
    async def me(call: Call) -> Answered:
        return Answered(orjson.dumps(await accounts.me(call.actor)))

    async def change(call: Call) -> Answered:
        patch: MePatch = call.body
        phone = None if patch.phone_number is None else e164(patch.phone_number)
        fields = await accounts.change_me(
            call.actor, first_name=patch.first_name, last_name=patch.last_name, phone_number=phone, locale=patch.locale
        )
        return Answered(orjson.dumps(fields))

    async def ticket(call: Call) -> Answered:
        return Answered(orjson.dumps({"ticket": await accounts.sell_ticket(call.token), "expires_in_s": TICKET_TTL_S}))

    async def sign_up(call: Call) -> Answered:
        actor, handle, tokens = await accounts.sessions.sign_up(call.body, call.address)
        user = await accounts.me(actor)
        return Answered(orjson.dumps({"user": user, "tokens": tokens, "verification_token": handle}), 201)

    async def sign_in(call: Call) -> Answered:
        body: SignInRequest = call.body
        return Answered(orjson.dumps(await accounts.sessions.sign_in(body.email, body.password, call.address)))

    async def refresh(call: Call) -> Answered:
        return Answered(orjson.dumps(await accounts.sessions.refresh(call.body.refresh_token)))

    async def sign_out(call: Call) -> Answered:
        await accounts.sessions.sign_out(call.body.refresh_token)
        return _DONE

    async def sign_out_everywhere(call: Call) -> Answered:
        await accounts.sign_out_everywhere(call.actor)
        return _DONE

    async def page(call: Call) -> Answered:
        return Answered(VERIFY_PAGE.encode(), content_type="text/html; charset=utf-8")

    async def verify_email(call: Call) -> Answered:
        await accounts.proofs.verify_email(call.body.token)
        return _DONE

    async def resend_email(call: Call) -> Answered:
        await accounts.proofs.resend(call.body.verification_token, call.address)
        return Answered(_DONE.body, 202)

    async def email_status(call: Call) -> Answered:
        verified = await accounts.proofs.verified(call.query.get("verification_token", ""))
        return Answered(orjson.dumps({"verified": verified}))

    async def forgot(call: Call) -> Answered:
        await accounts.sessions.forgot(call.body.email, call.address)
        return Answered(_DONE.body, 202)

    async def reset_page(call: Call) -> Answered:
        return Answered(RESET_PAGE.encode(), content_type="text/html; charset=utf-8")

    async def reset(call: Call) -> Answered:
        await accounts.reset_password(call.body.token, call.body.password)
        return _DONE

    async def phone_code(call: Call) -> Answered:
        body: PhoneCodeRequest = call.body
        phone = None if body.phone_number is None else e164(body.phone_number)
        await accounts.proofs.ask_code(call.actor, phone)
        return Answered(orjson.dumps({"expires_in_s": CODE_TTL_S}), 202)

    async def verify_phone(call: Call) -> Answered:
        await accounts.proofs.verify_code(call.actor, call.body.code)
        return Answered(orjson.dumps(await accounts.me(call.actor)))

    bad_token = (ErrorCode.INVALID_TOKEN, ErrorCode.TOKEN_EXPIRED)
    return [
        Route("GET", "/v1/me", me, "The own user", Me),
        Route("PATCH", "/v1/me", change, "Change the own user; absent fields stay", Me, body=MePatch),
        Route(
            "POST",
            "/v1/socket/tickets",
            ticket,
            "A one-use ticket for a browser's socket, good for 30 s",
            Ticket,
            errors=(ErrorCode.OVERLOADED,),
        ),
        Route(
            "POST",
            "/v1/auth/sign-up",
            sign_up,
            "A new user, signed in; a mail to verify the address is on its way",
            SignedUp,
            who="anyone",
            body=SignUpRequest,
            status=201,
            errors=(ErrorCode.EMAIL_TAKEN,),
        ),
        Route(
            "POST",
            "/v1/auth/sign-in",
            sign_in,
            "Tokens for an e-mail address and its password; UNAUTHORIZED for both an unknown one and a wrong one",
            Tokens,
            who="anyone",
            body=SignInRequest,
            errors=(ErrorCode.UNAUTHORIZED, ErrorCode.FORBIDDEN),
        ),
        Route(
            "POST",
            "/v1/auth/refresh",
            refresh,
            "New tokens for a refresh token, once; a second time ends its session",
            Tokens,
            who="anyone",
            body=RefreshRequest,
            errors=(ErrorCode.UNAUTHORIZED, ErrorCode.SESSION_EXPIRED),
        ),
        Route(
            "POST",
            "/v1/auth/sign-out",
            sign_out,
            "End the session of a refresh token",
            Done,
            who="anyone",
            body=RefreshRequest,
        ),
        Route(
            "POST",
            "/v1/auth/sign-out-everywhere",
            sign_out_everywhere,
            "End all own sessions, refuse all own tokens of before, close all own sockets",
            Done,
        ),
        Route(
            "GET",
            "/v1/auth/email/verify",
            page,
            "The page behind the link in a mail: HTML with a button, for people",
            None,
            who="anyone",
            query=_LINK,
        ),
        Route(
            "POST",
            "/v1/auth/email/verify",
            verify_email,
            "Prove an e-mail address by the token of its mail",
            Done,
            who="anyone",
            body=EmailVerifyRequest,
            errors=bad_token,
        ),
        Route(
            "POST",
            "/v1/auth/email/resend",
            resend_email,
            "Send another mail, if there is anything to verify; the answer does not say",
            Done,
            who="anyone",
            body=EmailResendRequest,
            status=202,
        ),
        Route(
            "GET",
            "/v1/auth/email/status",
            email_status,
            "Whether the address behind a verification token is verified",
            EmailStatus,
            who="anyone",
            query={"verification_token": "as sign-up or registration gave it"},
        ),
        Route(
            "POST",
            "/v1/auth/password/forgot",
            forgot,
            "Send a mail that leads to a new password, if there is such a user; the answer does not say",
            Done,
            who="anyone",
            body=ForgotRequest,
            status=202,
        ),
        Route(
            "GET",
            "/v1/auth/password/reset",
            reset_page,
            "The page behind that link: HTML with a field, for people",
            None,
            who="anyone",
            query=_LINK,
        ),
        Route(
            "POST",
            "/v1/auth/password/reset",
            reset,
            "Set a new password by the token of the mail; all sessions end",
            Done,
            who="anyone",
            body=ResetRequest,
            errors=bad_token,
        ),
        Route(
            "POST",
            "/v1/auth/phone/code",
            phone_code,
            "Send a code of six digits to a phone; codes of before are void",
            PhoneCodeSent,
            body=PhoneCodeRequest,
            status=202,
        ),
        Route(
            "POST",
            "/v1/auth/phone/verify",
            verify_phone,
            "Prove by the newest code that a phone is the own one; its number is the user's from then on",
            Me,
            body=PhoneVerifyRequest,
            errors=bad_token,
        ),
    ]
