"""Checkpoints signed by the key that signs manifests, so that an edit is noticed whose author has not that key.

The digest in a document finds damage, and who edits it may mend that. A signature cannot be mended. An older copy has a
true one: that is for the manifests to notice, whose newest the checkpoint names.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import msgspec

from cfaudit_export.core.model import Checkpoint
from cfaudit_export.errors import CheckpointDamagedError, SettingsError
from cfaudit_export.plugin.interfaces import CheckpointStore, Versioned

if TYPE_CHECKING:
    from cfaudit_export.proof.keys import SigningKey

_BEFORE = b"cfaudit-export checkpoint\n"  # so that the signature is none of anything else


@dataclass(frozen=True, slots=True)
class SignedStore:
    """Signs what it saves and verifies what it loads. Fits `cfaudit_export.CheckpointStore`.

    Attributes:
        store: keeps the checkpoints.
        keys: the first signs, and each is believed; without any, signed checkpoints are refused.
    """

    store: CheckpointStore
    keys: tuple[SigningKey, ...] = ()

    def load(self, stream_id: str) -> Versioned | None:
        """Return the checkpoint; as `CheckpointStore.load`. One without a signature is returned, too.

        Raises:
            SettingsError: it is signed, and by none of the keys.
            CheckpointDamagedError: it is not what was signed.
        """
        found = self.store.load(stream_id)
        if found is not None and found.checkpoint.signature is not None:
            self._require_true(found.checkpoint, found.checkpoint.signature)
        return found

    def save(self, checkpoint: Checkpoint, *, expected: str | None) -> str:
        """Sign and replace the checkpoint; as `CheckpointStore.save`."""
        signature = None
        if self.keys:
            key = self.keys[0]
            signature = f"{key.id}:{base64.b64encode(key.sign(_signed(checkpoint))).decode()}"
        return self.store.save(replace(checkpoint, signature=signature), expected=expected)

    def hold(self, stream_id: str) -> AbstractContextManager[None]:
        """Hold the stream; as `CheckpointStore.hold`."""
        return self.store.hold(stream_id)

    def streams(self) -> Iterator[str]:
        """Yield the ids of all streams; as `CheckpointStore.streams`."""
        return iter(self.store.streams())

    def _require_true(self, checkpoint: Checkpoint, signature: str) -> None:
        said, _, text = signature.partition(":")
        of = f"the checkpoint of stream '{checkpoint.stream.id}'"
        key = next((one for one in self.keys if one.id == said), None)
        if not self.keys:
            raise SettingsError(
                f"{of} is signed, and no key is set; set integrity.key_file to that key, or export without manifests, "
                "which proves nothing from then on, by integrity.manifests = false"
            )
        if key is None:
            raise SettingsError(
                f"{of} is signed by another key than the one that is set; if the key was changed by 'key rotate', set "
                "integrity.key_file to the new one, else to that of all runs; if 'key rotate' was interrupted, "
                "run it again as before"
            )
        try:
            is_true = key.public.is_signature(base64.b64decode(text, validate=True), _signed(checkpoint))
        except binascii.Error:
            is_true = False
        if not is_true:
            raise CheckpointDamagedError(
                f"{of} was changed since it was written, as its signature shows; restore it from a backup, or move it "
                "away to start again, which may deliver events twice"
            )


def _signed(checkpoint: Checkpoint) -> bytes:
    """Return the bytes that are signed: the same before a checkpoint is written and after it is read."""
    tree = msgspec.to_builtins(replace(checkpoint, signature=None), order="deterministic", str_keys=True)
    text = json.dumps(tree, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return _BEFORE + hashlib.sha256(text.encode(errors="replace")).digest()
