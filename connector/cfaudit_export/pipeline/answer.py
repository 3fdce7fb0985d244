"""What a sink answers, taken with care: it may be a stranger's, and faulty."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from traceback import extract_tb
from typing import TypeVar

from cfaudit_export.core.disk import require_file
from cfaudit_export.core.model import Batch, Receipt
from cfaudit_export.errors import CfauditError, LoadUnknownError, SinkError, StagingError
from cfaudit_export.plugin.blame import report_to
from cfaudit_export.plugin.interfaces import Sink
from cfaudit_export.proof.append import ManifestStore

T = TypeVar("T")
_AGAIN = "The next run reads its events again; see who else writes into the state folder, and look at the disk"


def load_into(sink: Sink, batch: Batch, redact: Callable[[str], str]) -> Receipt:
    """Load a batch, and return a receipt that speaks of every event of it.

    Reasons of refusals may be text of a server, which may repeat a secret: they are kept on the disk and shown, so
    they pass through `redact`, which returns a text without secrets.

    Raises:
        StagingError: the file is not what was staged; no sink has been asked.
        LoadUnknownError: as `Sink.load`, or the receipt does not.
        SinkError: as `Sink.load`, or the sink is faulty.
    """
    require_staged(batch)
    receipt = answered(lambda: sink.load(batch))
    if receipt.batch_id != batch.batch_id or receipt.rows + len(receipt.rejected) != batch.rows:
        raise LoadUnknownError(
            f"asked to store batch '{batch.batch_id}' of {batch.rows} events, the sink answered for batch "
            f"'{receipt.batch_id}': {receipt.rows} stored, {len(receipt.rejected)} refused; "
            "report this to the author of the sink"
        )
    return replace(receipt, rejected=tuple(replace(one, reason=redact(one.reason)) for one in receipt.rejected))


def require_staged(batch: Batch) -> None:
    """Compare the file of a batch with the digest that it had when it was staged.

    Raises:
        StagingError: it is another one, or cannot be read.
    """
    try:
        is_intact = digest_of(batch.path) == batch.digest
    except OSError as error:
        raise StagingError(f"cannot read the staged batch '{batch.path}': {error.strerror or error}") from error
    if not is_intact:
        raise StagingError(f"'{batch.path}' was changed since it was staged; it was given to no sink. {_AGAIN}")


def digest_of(path: Path) -> str:
    """Return the SHA-256 of a file, hex.

    Raises:
        OSError: it cannot be read.
    """
    require_file(path)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def answered(ask: Callable[[], T]) -> T:
    """Return what a call of a sink returns.

    Raises:
        SinkError: the sink failed in a way that it does not announce.
    """
    try:
        return ask()
    except CfauditError:
        raise
    except Exception as error:  # noqa: BLE001  # a faulty plugin may stop itself, but no other sink
        # The text of the error is left out, and its chain with it: the plugin has seen the events.
        frame = extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        words = f"the sink failed with {type(error).__name__} at {where}; {report_to(error, 'with that place')}"
        raise SinkError(words) from None


class AnsweringStore:
    """Manifests in a sink, which may be faulty. Fits `cfaudit_export.proof.append.ManifestStore`."""

    def __init__(self, store: ManifestStore, put: Callable[[str, bytes], bool] | None = None) -> None:
        """Build it; `put` writes in the place of `put_manifest`."""
        self._store = store
        self._put = put or store.put_manifest

    def put_manifest(self, name: str, content: bytes) -> bool:
        """Keep a manifest; as `ManifestStore.put_manifest`."""
        return answered(lambda: self._put(name, content))

    def get_manifest(self, name: str) -> bytes | None:
        """Return a manifest; as `ManifestStore.get_manifest`."""
        return answered(lambda: self._store.get_manifest(name))

    def manifests(self, chain: str) -> Iterator[str]:
        """Yield the names of the manifests of a chain; as `ManifestStore.manifests`."""
        yield from answered(lambda: list(self._store.manifests(chain)))
