"""What was done on purpose to sealed files, as a manifest of their chain. It is written before it is done.

A crash after that leaves files that are to be removed or replaced, and the record by which the next run of the command
knows it. The other order would leave files that are missing without a word.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime

from cfaudit_export.analysis.removal.storage import FileStorage
from cfaudit_export.proof.append import append_change
from cfaudit_export.proof.chain import Link
from cfaudit_export.proof.keys import SigningKey
from cfaudit_export.proof.manifest import ErasedEntry, Replacement


@dataclass(frozen=True, slots=True)
class Work:
    """What the commands work with that change sealed files.

    Attributes:
        storage: where the files are.
        keys: what signs.
        clock: the time, aware and UTC.
        accounts: only files of these; none for all.
        dry_run: only say what would be done.
    """

    storage: FileStorage
    keys: tuple[SigningKey, ...]
    clock: Callable[[], datetime]
    accounts: tuple[str, ...] = ()
    dry_run: bool = False


def record(
    work: Work, chain: str, replaced: Sequence[Replacement], reason: str, erased: Sequence[ErasedEntry] = ()
) -> Link:
    """Write into a chain what is done to its files, and return the link to that manifest.

    Raises:
        SettingsError: the chain cannot be read, or is signed by another key.
        SinkError: it cannot be written now.
    """
    return append_change(
        work.storage, chain, "retention", replaced, keys=work.keys, clock=work.clock, erased=erased, reason=reason
    )
