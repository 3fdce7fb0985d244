"""What a run sees of a checkpoint store: it is given no secret, and a checkpoint from the future is refused.

A server may have said a secret back in the reason of a gap. A checkpoint that says that the future is covered would let
runs pass over events without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from datetime import datetime

from cfaudit_export.core.model import Checkpoint
from cfaudit_export.plugin.interfaces import CheckpointStore, Versioned


@dataclass(frozen=True, slots=True)
class GuardedStore:
    """Passes checkpoints on. Fits `cfaudit_export.CheckpointStore`.

    Attributes:
        store: keeps them.
        redact: returns a text without secrets.
        clock: tells the time.
    """

    store: CheckpointStore
    redact: Callable[[str], str]
    clock: Callable[[], datetime]

    def load(self, stream_id: str) -> Versioned | None:
        """Return the checkpoint; as `CheckpointStore.load`.

        Raises:
            CheckpointDamagedError: it is from the future.
        """
        from cfaudit_export.stores.document import require_past

        found = self.store.load(stream_id)
        if found:
            require_past(found.checkpoint, self.clock())
        return found

    def save(self, checkpoint: Checkpoint, *, expected: str | None) -> str:
        """Replace the checkpoint; as `CheckpointStore.save`."""
        gaps = tuple(replace(gap, reason=self.redact(gap.reason)) for gap in checkpoint.gaps)
        return self.store.save(replace(checkpoint, gaps=gaps), expected=expected)

    def hold(self, stream_id: str) -> AbstractContextManager[None]:
        """Hold the stream; as `CheckpointStore.hold`."""
        return self.store.hold(stream_id)

    def streams(self) -> Iterator[str]:
        """Yield the ids of all streams; as `CheckpointStore.streams`."""
        return iter(self.store.streams())
