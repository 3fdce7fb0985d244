"""The secret with which the identity of events is computed, so that it gives no names away.

Without one, `event_key` is a hash of values that stay in the row and of two that may be hidden there: the e-mail
address and the token name. With a list of addresses one can then find out which of them fits. With a key, that takes
the secret.

The secret is the content of a file, without line ends at its end: 32 bytes or more, of which those beyond 64 count by
their SHA-512, as BLAKE2b takes no longer key (RFC 7693, section 2.5).
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from pathlib import Path

from cfaudit_export.core.durable import create_file
from cfaudit_export.core.secret_file import read_secret_file, unusable
from cfaudit_export.errors import SettingsError

_WHAT = "identity key"
_LEAST_BYTES = 32
_MOST_BYTES = 64
# Random text of 32 hexadecimal digits has fewer different characters than this once in a million million times.
_LEAST_DIFFERENT = 6


@dataclass(frozen=True, slots=True)
class IdentityKey:
    """A secret that makes keys of events.

    Attributes:
        id: the first 8 hexadecimal digits of its SHA-256, by which checkpoints know it.
    """

    id: str
    _secret: bytes = field(repr=False)

    def digest(self, text: bytes) -> bytes:
        """Return the BLAKE2b of a text under this key, 16 bytes."""
        return hashlib.blake2b(text, key=self._secret, digest_size=16).digest()

    def nonce(self, event_id: str) -> bytes:
        """Return 32 bytes for an event that only the key can compute; equal for equal ids.

        Hashed in front of a text, they keep it from being guessed by its hash.
        """
        return hashlib.blake2b(event_id.encode(), key=self._secret, digest_size=32, person=b"cfaudit nonce").digest()


def identity_key(content: bytes) -> IdentityKey:
    """Return the key that a file of this content holds.

    Raises:
        ValueError: it is too short, or not random; the text goes on from the name of the file.
    """
    secret = content.rstrip(b"\r\n")
    if len(secret) < _LEAST_BYTES:
        raise ValueError(f"holds {len(secret)} bytes, and an identity key has {_LEAST_BYTES} or more")
    if len(set(secret)) < _LEAST_DIFFERENT:
        raise ValueError("holds no random bytes, so its key can be guessed")
    if len(secret) > _MOST_BYTES:
        secret = hashlib.sha512(secret).digest()
    return IdentityKey(hashlib.sha256(secret).hexdigest()[:8], secret)


def load_identity_key(path: Path) -> IdentityKey:
    """Return the identity key in a file.

    Raises:
        SettingsError: it cannot be read, others may read it, or it holds no key.
    """
    try:
        return identity_key(read_secret_file(path, what=_WHAT))
    except ValueError as error:
        raise SettingsError(f"'{path}' {error}; make one: cfaudit-export key identity --out FILE") from None


def new_identity_key(path: Path) -> IdentityKey:
    """Write a new identity key, as 64 hexadecimal digits, into a new file that only its owner may read.

    Raises:
        SettingsError: there is a file already, or it cannot be written; nothing is left of it then.
    """
    content = f"{secrets.token_hex(_LEAST_BYTES)}\n".encode()
    try:
        is_new = create_file(path, content)
    except OSError as error:
        raise unusable(path, error, _WHAT) from error
    if not is_new:
        raise SettingsError(f"'{path}' exists, and a key is never overwritten; choose another name")
    return identity_key(content)
