"""Account numbers at rest: encrypted and authenticated, each bound to its row, readable with every key that is still set."""

import hashlib
import hmac
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from uuid import UUID

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from dispatch.settings import Settings


class Unreadable(Exception):
    """No key opens it, or it was sealed for another row."""


class Vault:
    """`secrets`, newest first: the first one seals, all of them open."""

    def __init__(self, secrets: Sequence[str]) -> None:
        keys = [hmac.digest(secret.encode(), b"dispatch bank accounts", "sha256") for secret in secrets]
        self._fernets = MultiFernet([Fernet(urlsafe_b64encode(key)) for key in keys])
        self._blind = hmac.digest(keys[0], b"fingerprints", "sha256")
        self.key_id = hashlib.sha256(b"dispatch bank key\0" + keys[0]).hexdigest()[:16]
        """Names the key that seals; tells nothing of it."""

    @classmethod
    def of(cls, settings: Settings) -> "Vault":
        return cls(settings.bank_secrets)

    def seal(self, row_id: UUID, number: str) -> bytes:
        """The row's id goes inside: a ciphertext that somebody moves to another row opens for nobody."""
        return self._fernets.encrypt(row_id.bytes + number.encode())

    def open(self, row_id: UUID, sealed: bytes) -> str:
        """Raises: Unreadable."""
        try:
            plain = self._fernets.decrypt(sealed)
        except InvalidToken:
            raise Unreadable(f"no key that is set opens the number of bank account {row_id}") from None
        if plain[:16] != row_id.bytes:
            raise Unreadable(f"the number of bank account {row_id} was sealed for another row")
        return plain[16:].decode()

    def blind(self, number: str) -> str:
        """Equal for equal numbers, and of use to nobody without the key: what a request's fingerprint may hold."""
        return hmac.digest(self._blind, number.encode(), "sha256").hex()
