"""A document -> what a time stamping authority (RFC 3161) says of it."""

from __future__ import annotations

from cfaudit_export.core.escape import shown
from cfaudit_export.errors import SettingsError, TryAgainError
from cfaudit_export.proof.timestamp import LARGEST, MEDIA_TYPE, require_answer, timestamp_query

_SECONDS = 15.0


def ask_timestamp(url: str, document: bytes, seconds: float = _SECONDS) -> bytes:
    """Return the answer of an authority about a document, as it is to be kept.

    The authority learns the SHA-256 of the document and nothing else of it.

    Raises:
        SettingsError: the library for timestamps is not installed, or the URL cannot be used.
        TryAgainError: the authority does not answer, or not with a timestamp of the document.
    """
    import httpx2

    from cfaudit_export.http.exchange import open_client

    query = timestamp_query(document)
    try:
        with open_client(seconds, most_bytes=LARGEST) as http:
            reply = http.post(url, content=query.content, headers={"Content-Type": MEDIA_TYPE})
    except httpx2.InvalidURL as error:
        raise SettingsError(f"integrity.timestamp_url cannot be used: {shown(error)}") from None
    except httpx2.HTTPError as error:
        raise TryAgainError(f"the time stamping authority cannot be reached: {shown(error)}") from error
    if not reply.is_success:
        raise TryAgainError(f"the time stamping authority answers with status {reply.status_code}")
    try:
        require_answer(reply.content, query, document)
    except ValueError as error:
        raise TryAgainError(f"the time stamping authority gives no timestamp: {error}") from None
    return reply.content
