"""The public door of `cfaudit_export`: all that a plugin may import. Nothing here is heavy.

from cfaudit_export import Batch, Receipt, SinkPlugin, hookimpl, read_batch
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cfaudit_export.errors import (
    AccessError,
    CfauditError,
    CheckpointConflictError,
    CheckpointDamagedError,
    ExitCode,
    LoadUnknownError,
    LockedError,
    ProtocolError,
    SettingsError,
    SinkError,
    SinkRefusedError,
    SourceUnavailableError,
    TryAgainError,
    worst,
)
from cfaudit_export.hookspecs import hookimpl
from cfaudit_export.interfaces import CheckpointStore, Extract, Sink, Source, Versioned
from cfaudit_export.model import (
    Batch,
    Checkpoint,
    Connection,
    Gap,
    Receipt,
    Rejected,
    RunReport,
    Stream,
    Window,
)
from cfaudit_export.records import (
    CheckpointStorePlugin,
    Credential,
    Recover,
    SinkPlugin,
    SourceContext,
    SourcePlugin,
    TransformPlugin,
)

if TYPE_CHECKING:
    import pyarrow as pa

__all__ = [
    "AccessError",
    "Batch",
    "CfauditError",
    "Checkpoint",
    "CheckpointConflictError",
    "CheckpointDamagedError",
    "CheckpointStore",
    "CheckpointStorePlugin",
    "Connection",
    "Credential",
    "ExitCode",
    "Extract",
    "Gap",
    "LoadUnknownError",
    "LockedError",
    "ProtocolError",
    "Receipt",
    "Recover",
    "Rejected",
    "RunReport",
    "SettingsError",
    "Sink",
    "SinkError",
    "SinkPlugin",
    "SinkRefusedError",
    "Source",
    "SourceContext",
    "SourcePlugin",
    "SourceUnavailableError",
    "Stream",
    "TransformPlugin",
    "TryAgainError",
    "Versioned",
    "Window",
    "hookimpl",
    "read_batch",
    "worst",
]


def read_batch(batch: Batch) -> pa.Table:
    """Read the staged events of a batch as a table of `cfaudit_export.schema.schema()`, memory-mapped.

    Raises:
        OSError: the staged file is gone or unreadable.
    """
    import pyarrow as pa  # the door stays light

    with pa.memory_map(str(batch.path)) as mapped:
        return pa.ipc.open_file(mapped).read_all()
