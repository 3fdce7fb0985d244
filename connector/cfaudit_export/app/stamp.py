"""A manifest -> what a time stamping authority (RFC 3161) says of it, kept beside it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field

from cfaudit_export.core.escape import shown
from cfaudit_export.errors import CfauditError, SettingsError, TryAgainError
from cfaudit_export.proof.append import ManifestStore
from cfaudit_export.proof.timestamp import LARGEST, MEDIA_TYPE, STAMP, require_answer, timestamp_query

_SECONDS = 15.0
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class StampingStore:
    """Keeps manifests in a store, each with a timestamp beside it. Fits `append.ManifestStore`.

    A manifest counts without a timestamp too: where the authority gives none, that is logged, and changes nothing. It
    is not asked again then, so that one that is sick delays a run once.

    Attributes:
        store: where they are kept.
        url: the authority.
    """

    store: ManifestStore
    url: str
    _failed: list[CfauditError] = field(default_factory=list)

    def put_manifest(self, name: str, content: bytes) -> bool:
        """Keep a manifest, and what the authority says of it; as `ManifestStore.put_manifest`."""
        if not self.store.put_manifest(name, content):
            return False
        if self._failed:
            return True
        try:
            self.store.put_manifest(name + STAMP, ask_timestamp(self.url, content))
        except CfauditError as error:
            self._failed.append(error)
            _LOG.warning("manifest not stamped", extra={"manifest": name, "error": str(error)})
        return True

    def get_manifest(self, name: str) -> bytes | None:
        """Return a manifest; as `ManifestStore.get_manifest`."""
        return self.store.get_manifest(name)

    def manifests(self, chain: str) -> Iterator[str]:
        """Yield the names of the manifests of a chain; as `ManifestStore.manifests`."""
        return (name for name in self.store.manifests(chain) if not name.endswith(STAMP))


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
