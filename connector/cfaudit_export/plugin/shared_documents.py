"""What a checkpoint store may offer beside checkpoints: small documents that all workers read and replace."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, runtime_checkable


@dataclass(frozen=True, slots=True)
class SharedBudget:
    """Where the workers of one credential tell each other which calls they make.

    Attributes:
        store: holds the document.
        name: of the document; workers that name the same share a budget.
        fallback_workers: among so many the budget is divided while the store is away.
    """

    store: SharedDocuments
    name: str
    fallback_workers: int


@runtime_checkable
class SharedDocuments(Protocol):
    """Documents of no stream, by name; each is replaced by compare-and-swap. Any thread may call.

    Names have lower-case letters, digits, dots and dashes. The methods raise TryAgainError where the store cannot be
    reached, and SettingsError where it refuses.
    """

    def find_shared(self, name: str) -> tuple[bytes, str] | None:
        """Return a document and its version, None when there is none."""
        ...

    def swap_shared(self, name: str, content: bytes, *, expected: str | None) -> bool:
        """Replace a document if its version still is `expected` (None: if there is none); return whether it was.

        A reader sees the old document or the new one. It need not survive a power cut.
        """
        ...

    def shared_now(self) -> float:
        """Return the time by the store's clock, in seconds since 1970; that of machines may differ from it."""
        ...
