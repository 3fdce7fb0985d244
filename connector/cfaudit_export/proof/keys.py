"""Ed25519 keys in files: PKCS#8 PEM for the signing half, readable for its owner only, SPKI PEM for the public half.

Both are what `openssl` reads and writes. A key is known by the SHA-256 of its public half as SPKI DER, in hex.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cfaudit_export.core.durable import create_file
from cfaudit_export.core.secret_file import read_secret_file, unusable
from cfaudit_export.errors import SettingsError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


@dataclass(frozen=True, slots=True)
class PublicKey:
    """The half of a key that verifies signatures, and may be known to all.

    Attributes:
        id: SHA-256 of the key as SPKI DER, hex.
        der: the key as SPKI DER.
    """

    id: str
    der: bytes
    _key: Ed25519PublicKey = field(repr=False, compare=False)

    @property
    def pem(self) -> str:
        """Return the key as PEM, as `openssl pkey -pubin` reads it."""
        from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

        return self._key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode()

    def is_signature(self, signature: bytes, message: bytes) -> bool:
        """Say whether the other half of the key made this signature of this message."""
        from cryptography.exceptions import InvalidSignature

        try:
            self._key.verify(signature, message)
        except InvalidSignature:
            return False
        return True


@dataclass(frozen=True, slots=True)
class SigningKey:
    """The half of a key that signs, and is known to its owner only.

    Attributes:
        public: the other half.
    """

    public: PublicKey
    _key: Ed25519PrivateKey = field(repr=False, compare=False)

    @property
    def id(self) -> str:
        """Return the id of the key."""
        return self.public.id

    def sign(self, message: bytes) -> bytes:
        """Return the signature of a message, 64 bytes."""
        return self._key.sign(message)


def new_key() -> SigningKey:
    """Return a new key; nothing is written."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return _signing(Ed25519PrivateKey.generate())


def write_key(key: SigningKey, path: Path) -> None:
    """Write a signing key into a new file that only its owner may read.

    Raises:
        SettingsError: there is a file already, or it cannot be written; nothing is left of it then.
    """
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    pem = key._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())  # noqa: SLF001  # its own module
    try:
        is_new = create_file(path, pem)
    except OSError as error:
        raise unusable(path, error) from error
    if not is_new:
        raise SettingsError(f"'{path}' exists, and a key is never overwritten; choose another name")


def load_key(path: Path) -> SigningKey:
    """Return the signing key in a file.

    Raises:
        SettingsError: it cannot be read, others may read it, or it holds no Ed25519 key.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    content = read_secret_file(path)
    try:
        key = load_pem_private_key(content, None)
    except TypeError:
        raise SettingsError(f"the key in '{path}' has a password; write it without: openssl pkey -in ...") from None
    except (ValueError, UnsupportedAlgorithm):  # what they say may show a part of the file
        raise SettingsError(f"'{path}' holds no private key; make one: cfaudit-export key new") from None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(f"the key in '{path}' is not an Ed25519 key; make one: cfaudit-export key new")
    return _signing(key)


def load_public_key(path: Path) -> PublicKey:
    """Return the public key in a file; that of a signing key is refused, as it does not belong with an auditor.

    Raises:
        SettingsError: it cannot be read, or holds no public Ed25519 key.
    """
    content = read_secret_file(path, is_private=False)
    if b"PRIVATE KEY" in content:
        raise SettingsError(
            f"'{path}' holds a private key; give the public one, as 'cfaudit-export key show' prints it"
        )
    try:
        return parse_public_key(content)
    except ValueError as error:
        raise SettingsError(f"'{path}' {error}; it is printed by: cfaudit-export key show") from None


def parse_public_key(pem: bytes) -> PublicKey:
    """Return the public key of a PEM text.

    Raises:
        ValueError: it is none; the text goes on from the name of the file.
    """
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        raise ValueError("holds no public key") from None
    if not isinstance(key, Ed25519PublicKey):
        raise ValueError("holds a key that is not an Ed25519 key")  # noqa: TRY004  # the content is wrong, no type
    return _public(key)


def _signing(key: Ed25519PrivateKey) -> SigningKey:
    return SigningKey(_public(key.public_key()), key)


def _public(key: Ed25519PublicKey) -> PublicKey:
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return PublicKey(hashlib.sha256(der).hexdigest(), der, key)
