"""RFC 3161: a request for a timestamp of a document, and what an authority answered, read and verified.

The answer is kept as it came, beside the manifest: `openssl ts -verify` reads it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cfaudit_export.core.escape import shown
from cfaudit_export.core.installing import install_command
from cfaudit_export.errors import SettingsError

if TYPE_CHECKING:
    from cryptography.x509 import Certificate

STAMP = ".tsr"
"""What is appended to the name of a manifest for that of its timestamp."""

MEDIA_TYPE = "application/timestamp-query"
"""Of a request."""

LARGEST = 64 << 10
"""Bytes of an answer that are read."""

_SHA256 = "2.16.840.1.101.3.4.2.1"
_GRANTED = (0, 1)


@dataclass(frozen=True, slots=True)
class StampQuery:
    """A request for a timestamp: its bytes, and the number that the answer must repeat."""

    content: bytes
    nonce: int | None


@dataclass(frozen=True, slots=True)
class Authorities:
    """The certificates of authorities that are believed, and what leads from them to the ones that sign."""

    certificates: tuple[Certificate, ...]


def timestamp_query(document: bytes) -> StampQuery:
    """Return a request for a timestamp of a document, with a random number in it.

    Raises:
        SettingsError: the library for timestamps is not installed.
    """
    library = _library()
    request = library.TimestampRequestBuilder().data(document).hash_algorithm(library.HashAlgorithm.SHA256).build()
    return StampQuery(request.as_bytes(), request.nonce)


def require_answer(answer: bytes, query: StampQuery, document: bytes) -> None:
    """Compare an answer with the request; whether its signature is true is up to who verifies.

    Raises:
        ValueError: it is no timestamp of this document; the text says why.
    """
    found = _decoded(answer)
    if found.tst_info.nonce != query.nonce:
        raise ValueError("it answers another request")
    if not _is_of(found, hashlib.sha256(document).hexdigest()):
        raise ValueError("it is of another document")


def stamped_at(answer: bytes, sha256: str, authorities: Authorities) -> datetime:
    """Return the time that an authority has stamped a document with.

    Args:
        answer: what the authority answered.
        sha256: SHA-256 of the document, hex.
        authorities: those that are believed.

    Raises:
        ValueError: it is no true timestamp of this document; the text says why.
    """
    library = _library()
    found = _decoded(answer)
    if not _is_of(found, sha256):
        raise ValueError("it is of another document")
    try:
        library.VerifierBuilder(roots=list(authorities.certificates)).build().verify(found, bytes.fromhex(sha256))
    except (library.VerificationError, ValueError) as error:
        raise ValueError(shown(error)) from None
    at: datetime = found.tst_info.gen_time
    return at.astimezone(UTC)


def load_authorities(paths: Iterable[Path]) -> Authorities:
    """Return the authorities whose certificates PEM files hold.

    Raises:
        SettingsError: a file cannot be read, or holds none.
    """
    return Authorities(tuple(one for path in paths for one in _certificates(path)))


def _certificates(path: Path) -> list[Certificate]:
    from cryptography.x509 import load_pem_x509_certificates

    try:
        return load_pem_x509_certificates(path.read_bytes())
    except OSError as error:
        raise SettingsError(f"'{path}' cannot be read: {(error.strerror or 'unknown error').lower()}") from error
    except ValueError:
        raise SettingsError(f"'{path}' holds no certificate of a time stamping authority (PEM)") from None


def _decoded(answer: bytes) -> Any:
    try:
        found = _library().decode_timestamp_response(answer)
        is_granted = found.status in _GRANTED
        _ = found.tst_info.gen_time
    except ValueError as error:
        raise ValueError(f"it is no timestamp: {shown(error)}") from None
    if not is_granted:
        raise ValueError("the authority refused it")
    return found


def _is_of(found: Any, sha256: str) -> bool:
    imprint = found.tst_info.message_imprint
    return bool(imprint.hash_algorithm.dotted_string == _SHA256 and imprint.message.hex() == sha256)


def _library() -> Any:
    try:
        import rfc3161_client
    except ImportError:
        raise SettingsError(f"timestamps are not installed: run {install_command('timestamp')}") from None
    return rfc3161_client
