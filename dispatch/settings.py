"""Every number an operator may turn, from the environment (DISPATCH_…) and an optional TOML file. Frozen after start."""

import hashlib
import os
import re
from collections.abc import Mapping
from email.utils import parseaddr
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict, TomlConfigSettingsSource

from dispatch.kit.address import Proxies
from protocol.lifecycle import ServiceType
from protocol.papers import DocumentType

_PREFIX = "DISPATCH_"
_DEVELOPMENT_SECRET = "development-only-secret-change-me-0123456789"


_ADDRESS = re.compile(r"[^@\s<>,;]+@[^@\s<>,;]+")


class BadSettings(Exception):
    """The settings cannot be used; the message says which, with which value, and what to do."""


class Issuer(BaseModel):
    """Somebody else who signs tokens for our users. He is trusted with all of them: a `sub` that is a UUID is that user."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    issuer: str = Field(min_length=1)
    audience: str = Field(min_length=1)
    jwks_url: str = Field(pattern="^https?://")
    roles_claim: str = ""
    """Dotted path; unset: app_metadata.roles for Supabase, else roles."""
    default_roles: list[Literal["customer", "partner", "support", "admin"]] = ["customer"]
    """Of a token that has no such claim."""
    # A shared secret is not among them: whoever can verify such a token can make one.
    algorithms: list[Literal["RS256", "RS384", "RS512", "PS256", "ES256", "ES384", "ES512", "EdDSA"]] = [
        "RS256",
        "ES256",
    ]
    shape: Literal["plain", "supabase"] = "plain"

    @model_validator(mode="before")
    @classmethod
    def _claim_of_the_shape(cls, given: Any) -> Any:
        if isinstance(given, dict) and not given.get("roles_claim"):
            given = given | {"roles_claim": "app_metadata.roles" if given.get("shape") == "supabase" else "roles"}
        return given


class Settings(BaseSettings):
    """All settings. Names here in upper case with DISPATCH_ in front are the environment's names."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, env_nested_delimiter="__", frozen=True, extra="forbid")

    database_url: str | None = Field(None, description="Postgres; unset: an embedded one. Also read from DATABASE_URL")
    redis_url: str | None = Field(
        None,
        description="Redis or Valkey; unset: an embedded one; addresses with commas between them: nodes of a cluster. Also read from REDIS_URL",
    )
    host: str = Field("127.0.0.1", description="address to listen on")
    port: int = Field(8080, ge=0, le=65535, description="port for HTTP and sockets; 0 picks a free one")
    workers: int = Field(2, ge=1, le=64, description="worker processes on that port")
    data_dir: Path = Field(Path(".data"), description="where embedded stores keep their data")

    jwt_secrets: list[SecretStr] = Field(
        [SecretStr(_DEVELOPMENT_SECRET)],
        min_length=1,
        max_length=2,
        description="HS256 secrets, newest first; a second one stays valid while keys rotate",
    )
    jwt_issuer: str = Field("dispatch", description="`iss` that tokens must carry")
    jwt_audience: str = Field("dispatch", description="`aud` that tokens must carry")
    jwt_roles_claim: str = Field(
        "roles", description="claim path of the roles, dots between: app_metadata.roles for Supabase"
    )
    token_ttl_s: int = Field(3600, ge=1, description="life of a token minted by `dispatch token`")
    issuers: list[Issuer] = Field(
        [], description="outside issuers whose tokens are taken too; docs/operating/sign-in.md"
    )
    access_ttl_s: int = Field(
        900, ge=30, le=86_400, description="life of an access token; rights are looked up anew each second all the same"
    )
    refresh_ttl_days: int = Field(30, ge=1, le=365, description="a session that nobody refreshed for this long is over")
    link_secret: SecretStr | None = Field(
        None, description="key of links in mails and of codes; unset: derived from the newest of DISPATCH_JWT_SECRETS"
    )
    public_url: str | None = Field(
        None, pattern="^https?://.+[^/]$", description="where people reach this server; unset: http://host:port"
    )
    email_link: str | None = Field(
        None, description="link that verifies an e-mail address, with {token}; unset: a page of this server"
    )
    password_link: str | None = Field(
        None, description="link that leads to a new password, with {token}; unset: a page of this server"
    )
    attempts_per_user: int = Field(10, ge=1, description="failed sign-ins, or tried codes, of one user in a window")
    attempts_per_address: int = Field(
        100, ge=0, description="the same of one network address, all users together; 0 switches it off"
    )
    attempts_window_s: int = Field(900, ge=1, description="that window")
    sends_per_user: int = Field(5, ge=1, description="mails and codes that one user may have sent in a window")
    sends_per_address: int = Field(
        50, ge=0, description="the same of one network address, sign-ups among them; 0 switches it off"
    )
    sends_window_s: int = Field(3600, ge=1, description="that window of sending")
    trusted_proxies: list[str] = Field(
        [],
        description='networks of proxies whose X-Forwarded-For is believed, such as ["10.0.0.0/8"]; without them all callers behind one share its limits',
    )
    allowed_origins: list[str] = Field([], description="Origins besides the own one that browsers may come from")

    pool_size: int = Field(
        10, ge=2, le=100, description="Postgres connections per worker and pool (there are two pools)"
    )
    drain_s: float = Field(10.0, ge=0, description="seconds over which a draining worker asks its clients to come back")
    user_rate: float = Field(20.0, gt=0, description="HTTP requests per second and user")
    user_burst: int = Field(40, ge=1, description="HTTP requests a user may send at once")
    address_rate: float = Field(100.0, ge=0, description="HTTP requests per second and address; 0 switches it off")
    handshake_rate: float = Field(300.0, gt=0, description="socket handshakes per second and worker; more are told 503")
    read_every_ms: int = Field(
        10,
        ge=0,
        le=50,
        description="milliseconds between readings of sockets on a busy worker: one wake-up for many frames; 0 reads each by itself",
    )
    metrics_token: SecretStr | None = Field(None, description="bearer token for /metrics; unset: only from loopback")
    claims: bool = Field(True, description="use the Redis load filter in front of accepts; promises hold without it")
    log_level: str = Field("info", pattern="^(debug|info|warning|error)$", description="debug, info, warning or error")
    stamp_file: Path | None = Field(None, description="write offer commit stamps here (benchmarks)")

    required_documents: dict[ServiceType, list[DocumentType]] = Field(
        {
            kind: [DocumentType.NATIONAL_ID, DocumentType.DRIVER_LICENSE, DocumentType.VEHICLE_REGISTRATION]
            for kind in (ServiceType.RIDE, ServiceType.DELIVERY, ServiceType.SHOPPING, ServiceType.MOVING)
        }
        | {
            ServiceType.LAUNDRY: [DocumentType.NATIONAL_ID],
        },
        description="papers that each service type asks for, as JSON; a type that is not named asks for none",
    )
    vehicle_services: list[ServiceType] = Field(
        [],
        description='service types that need an approved vehicle; in production `["ride", "delivery", "moving"]`',
    )
    storage_dir: Path | None = Field(None, description="folder of uploaded documents; unset: documents in DATA_DIR")
    storage_bucket: str | None = Field(None, description="bucket of uploaded documents; unset: a local folder")
    storage_endpoint: str | None = Field(None, description="address of an S3-compatible server; unset: that of AWS")
    storage_region: str = Field("us-east-1", description="region of the bucket")
    storage_key_id: str | None = Field(None, description="access key of the bucket; unset: the machine's own role")
    storage_secret: SecretStr | None = Field(None, description="secret of the access key")
    storage_timeout_s: float = Field(10.0, gt=0, description="seconds that one call of the bucket may take")
    upload_within_s: float = Field(60.0, gt=0, description="seconds within which an upload must have come")
    uploads_per_hour: int = Field(30, ge=1, description="documents that a provider may upload within an hour")
    file_link_s: int = Field(300, ge=1, le=604800, description="life of a link to a document")
    markets: dict[str, dict[str, Any]] = Field(
        {}, description='overrides of market settings: {"bkk": {"offer_ttl_s": 20}}'
    )
    tick_s: float = Field(0.2, gt=0, le=1, description="seconds between batched position writes")
    track_every_s: float = Field(5.0, gt=0, description="cadence of positions to the customer")
    stale_after_s: float = Field(15.0, gt=0, description="silence after which the customer is told")
    fresh_s: float = Field(30.0, gt=0, description="a candidate's fix is younger than this")
    gone_after_s: float = Field(
        45.0, gt=5, description="without a socket this long: offline, and the job is released before pickup"
    )
    keep_events_days: int = Field(7, ge=1, description="how long events can be resumed from")
    explain: bool = Field(
        True, description="write down who was considered for each job, and why, for `GET /v1/admin/jobs/{id}/why`"
    )
    decision_log: Path | None = Field(
        None,
        description="write every decision of matching into FILE.<worker>.<start>.gz, for `python -m bench simulate --replay`",
    )
    keep_rounds_days: int = Field(7, ge=1, description="how long that is kept")
    keep_idem_hours: int = Field(48, ge=24, description="how long request ids are remembered")

    mail_by: Literal["smtp", "folder", "off"] = Field(
        "folder", description="e-mail goes by `smtp`, into files under data_dir/mail (`folder`), or nowhere (`off`)"
    )
    mail_from: str = Field(
        "Dispatch <noreply@localhost>", description="sender of e-mail: an address, or a name and <address>"
    )
    smtp_host: str = Field("", description="SMTP server, with mail_by=smtp")
    smtp_port: int = Field(587, ge=1, le=65535, description="its port: 587 with starttls, 465 with tls")
    smtp_security: Literal["starttls", "tls", "none"] = Field(
        "starttls", description="starttls, tls, or none for a server on this machine"
    )
    smtp_user: str | None = Field(None, description="login of the SMTP server; unset: none")
    smtp_password: SecretStr | None = Field(None, description="password of that login")
    sms_by: Literal["http", "folder", "off"] = Field(
        "off", description="SMS goes by an `http` gateway, into files under data_dir/sms (`folder`), or nowhere (`off`)"
    )
    sms_url: str = Field("", description="where the SMS gateway takes messages, with sms_by=http")
    sms_user: str | None = Field(
        None, description="user of the SMS gateway (Twilio: account SID); unset: no authentication"
    )
    sms_password: SecretStr | None = Field(None, description="password of the SMS gateway (Twilio: auth token)")
    sms_from: str = Field("", description="sender of SMS: a number or a name that the gateway knows")
    fcm_account: SecretStr | None = Field(
        None, description="Firebase service account: its JSON, or the file's path; unset: no push by FCM"
    )
    fcm_url: str = Field("https://fcm.googleapis.com", description="base address of FCM HTTP v1")
    vapid_private_key: SecretStr | None = Field(
        None, description="VAPID private key, PEM or base64url; unset: no push to browsers"
    )
    vapid_subject: str = Field("", description="whom push services may write to: mailto:… or https:…")
    webpush_loopback: bool = Field(
        False, description="let browsers' endpoints be on this machine (tests only: a hole elsewhere)"
    )
    send_timeout_s: float = Field(
        10.0, gt=0, le=30, description="seconds that a push, e-mail or SMS service has for one message"
    )
    retry_base_s: float = Field(
        1.0, gt=0, le=60, description="seconds before the second try of a message; doubled before the third"
    )
    keep_notices_days: int = Field(90, ge=1, description="how long notifications and their deliveries are kept")

    debt_limit_minor: int = Field(
        50_000,
        ge=0,
        le=2**53,
        description="how much of the fees of cash jobs a provider may owe, in minor units of their currency",
    )
    withdrawal_min_minor: int = Field(
        10_000, ge=1, le=2**53, description="smallest withdrawal, in minor units of its currency"
    )
    bank_keys: list[SecretStr] = Field(
        [],
        description="keys of bank account numbers, newest first; unset: derived from DISPATCH_JWT_SECRETS, whose keys still open what they sealed",
    )
    payout_by: Literal["folder", "http", "manual"] = Field(
        "folder",
        description="payouts go by an `http` gateway, by people in the office (`manual`), or into files under data_dir/payouts (`folder`)",
    )
    payout_url: str = Field("", description="address of the payout gateway before /payouts, with payout_by=http")
    payout_secret: SecretStr | None = Field(None, description="bearer secret of the payout gateway")
    payout_timeout_s: float = Field(10.0, gt=0, le=60, description="seconds that the payout gateway has for one answer")

    @model_validator(mode="after")
    def _long_secrets(self) -> "Settings":
        for secret in self.jwt_secrets:
            if len(secret.get_secret_value()) < 32:
                raise ValueError(
                    "jwt_secrets: an HS256 secret needs 32 characters at least; make one with `openssl rand -base64 48`"
                )
        if self.link_secret is not None and len(self.link_secret.get_secret_value()) < 32:
            raise ValueError("link_secret: 32 characters at least; make one with `openssl rand -base64 48`")
        for name, link in (("email_link", self.email_link), ("password_link", self.password_link)):
            if link is not None and "{token}" not in link:
                raise ValueError(f"{name}: {{token}} must stand where the token goes")
        known = [issuer.issuer for issuer in self.issuers]
        if len(set(known)) < len(known) or self.jwt_issuer in known:
            raise ValueError("issuers: each needs an `issuer` of its own, other than jwt_issuer")
        return self

    @model_validator(mode="after")
    def _whole_channels(self) -> "Settings":
        if self.mail_by == "smtp" and not self.smtp_host:
            raise ValueError("smtp_host: mail_by=smtp needs the server's name")
        for name in ("smtp_host", "smtp_user", "smtp_password"):
            if self.mail_by != "smtp" and getattr(self, name):
                raise ValueError(
                    f"{name} is set, but mail goes by mail_by={self.mail_by}: set mail_by=smtp, or unset it"
                )
        if bool(self.smtp_user) != bool(self.smtp_password):
            raise ValueError("smtp_user and smtp_password come together: set both, or neither")
        if not _ADDRESS.fullmatch(parseaddr(self.mail_from)[1]):
            raise ValueError(
                f"mail_from={self.mail_from!r}: no address; it looks like noreply@example.com or Name <noreply@example.com>"
            )
        if self.sms_by == "http" and not _is_url(self.sms_url):
            raise ValueError("sms_url: sms_by=http needs the gateway's address, such as https://…/Messages.json")
        if self.sms_by == "http" and not self.sms_from:
            raise ValueError("sms_from: sms_by=http needs the number or the name that SMS come from")
        for name in ("sms_url", "sms_user", "sms_password"):
            if self.sms_by != "http" and getattr(self, name):
                raise ValueError(f"{name} is set, but SMS go by sms_by={self.sms_by}: set sms_by=http, or unset it")
        if bool(self.sms_user) != bool(self.sms_password):
            raise ValueError("sms_user and sms_password come together: set both, or neither")
        if not _is_url(self.fcm_url):
            raise ValueError(f"fcm_url={self.fcm_url!r}: no address; it looks like https://fcm.googleapis.com")
        if self.vapid_private_key is not None and not self.vapid_subject.startswith(("mailto:", "https:")):
            raise ValueError("vapid_subject: push services want to know whom to write to: mailto:… or https:…")
        return self

    @model_validator(mode="after")
    def _whole_payouts(self) -> "Settings":
        for secret in self.bank_keys:
            if len(secret.get_secret_value()) < 32:
                raise ValueError("bank_keys: 32 characters at least each; make one with `openssl rand -base64 48`")
        if self.payout_by == "http" and not _is_url(self.payout_url):
            raise ValueError("payout_url: payout_by=http needs the gateway's address, such as https://bank.example/v1")
        if self.payout_by == "http" and not self.payout_secret:
            raise ValueError("payout_secret: payout_by=http needs the gateway's bearer secret")
        for name in ("payout_url", "payout_secret"):
            if self.payout_by != "http" and getattr(self, name):
                raise ValueError(
                    f"{name} is set, but payouts go by payout_by={self.payout_by}: set payout_by=http, or unset it"
                )
        return self

    @model_validator(mode="after")
    def _known_proxies(self) -> "Settings":
        try:
            Proxies(self.trusted_proxies)
        except ValueError as error:
            raise ValueError(f"trusted_proxies: {error}; a network looks like 10.0.0.0/8") from error
        return self

    @model_validator(mode="after")
    def _whole_storage(self) -> "Settings":
        if (self.storage_key_id is None) != (self.storage_secret is None):
            raise ValueError("storage_key_id and storage_secret come together: set both, or neither")
        if self.storage_bucket is None and self.storage_key_id is not None:
            raise ValueError("storage_key_id and storage_secret without storage_bucket: name the bucket")
        if self.storage_bucket is None and self.storage_endpoint is not None:
            raise ValueError(f"storage_endpoint={self.storage_endpoint} without storage_bucket: name the bucket")
        return self

    @property
    def link_key(self) -> bytes:
        """What links and codes are derived from."""
        secret = self.link_secret or self.jwt_secrets[0]
        return hashlib.sha256(b"dispatch links\0" + secret.get_secret_value().encode()).digest()

    @property
    def bank_secrets(self) -> list[str]:
        """What bank account numbers are sealed with, newest first. Those of tokens come last: what they sealed before there were keys of its own."""
        return [secret.get_secret_value() for secret in (*self.bank_keys, *self.jwt_secrets)]

    @property
    def email_link_template(self) -> str:
        """The link that verifies an e-mail address, with {token}."""
        return self.email_link or f"{self._reached}/v1/auth/email/verify?token={{token}}"

    @property
    def password_link_template(self) -> str:
        """The link that leads to a new password, with {token}."""
        return self.password_link or f"{self._reached}/v1/auth/password/reset?token={{token}}"

    @property
    def _reached(self) -> str:
        return self.public_url or f"http://{self.host}:{self.port}"

    @property
    def documents_dir(self) -> Path:
        """Where documents lie when no bucket is named."""
        return self.storage_dir or self.data_dir / "documents"

    @property
    def development_secret(self) -> bool:
        """Whether tokens are signed with the published secret: fine on a laptop, a hole anywhere else."""
        return any(secret.get_secret_value() == _DEVELOPMENT_SECRET for secret in self.jwt_secrets)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        file = os.environ.get(f"{_PREFIX}CONFIG")
        toml = (TomlConfigSettingsSource(settings_cls, Path(file)),) if file else ()
        return (init_settings, env_settings, *toml)


def load(environ: Mapping[str, str] | None = None, **given: Any) -> Settings:
    """Settings from the environment, `given` on top. Raises BadSettings: also for a misspelt DISPATCH_ name, which would
    otherwise be ignored in silence.
    """
    env = os.environ if environ is None else environ
    known = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields} | {f"{_PREFIX}CONFIG"}
    for name in sorted(env):
        if name.startswith(_PREFIX) and name.split("__")[0] not in known:
            near = min(known, key=lambda k: _distance(k, name))
            raise BadSettings(
                f"{name} is no setting of this server; did you mean {near}? `dispatch doctor` lists them all"
            )
    for plain in ("DATABASE_URL", "REDIS_URL"):
        if env.get(plain) and f"{_PREFIX}{plain}" not in env:
            given.setdefault(plain.lower(), env[plain])
    file = env.get(f"{_PREFIX}CONFIG")
    if file and not Path(file).is_file():
        raise BadSettings(f"{_PREFIX}CONFIG={file}: there is no such file")
    try:
        return Settings(**given)
    except ValidationError as error:
        lines = []
        for problem in error.errors():
            name = "__".join(str(part) for part in problem["loc"]).upper()
            field = Settings.model_fields.get(str(problem["loc"][0])) if problem["loc"] else None
            # A rule that spans settings gets all of them as its input, and a secret is shown to nobody.
            shown = "" if field is None or "SecretStr" in str(field.annotation) else f"={problem.get('input')!r}"
            lines.append(f"{_PREFIX}{name}{shown}: {problem['msg']}" if name else problem["msg"])
        raise BadSettings("; ".join(lines)) from error
    except ValueError as error:
        raise BadSettings(str(error)) from error


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        return False


def _distance(a: str, b: str) -> int:
    """Edits between two names, for «did you mean»."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]
