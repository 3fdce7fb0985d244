"""A checkpoint store that is given no secret: a server may have said one back in the reason of a gap."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

from cfaudit_export.interfaces import CheckpointStore, Versioned
from cfaudit_export.model import Checkpoint


@dataclass(frozen=True, slots=True)
class RedactedStore:
    """Passes checkpoints on. Fits `cfaudit_export.CheckpointStore`.

    Attributes:
        store: keeps them.
        redact: returns a text without secrets.
    """

    store: CheckpointStore
    redact: Callable[[str], str]

    def load(self, stream_id: str) -> Versioned | None:
        """Return the checkpoint; as `CheckpointStore.load`."""
        return self.store.load(stream_id)

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
