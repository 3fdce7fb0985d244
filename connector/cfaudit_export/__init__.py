"""The public door of `cfaudit_export`: all that a plugin may import. Nothing here is heavy.

from cfaudit_export import Batch, Receipt, SinkPlugin, hookimpl, read_batch
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa

    from cfaudit_export.core.model import (
        Batch,
        Checkpoint,
        Connection,
        Gap,
        Receipt,
        Rejected,
        RunReport,
        StoredFile,
        Stream,
        Window,
    )
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
    from cfaudit_export.plugin.hookspecs import hookimpl
    from cfaudit_export.plugin.interfaces import CheckpointStore, Extract, Sink, Source, Versioned
    from cfaudit_export.plugin.records import (
        CheckpointStorePlugin,
        Credential,
        Recover,
        SinkPlugin,
        SourceContext,
        SourcePlugin,
        TransformPlugin,
    )

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
    "StoredFile",
    "Stream",
    "TransformPlugin",
    "TryAgainError",
    "Versioned",
    "Window",
    "hookimpl",
    "read_batch",
    "worst",
]


_ROOMS = ("errors", "core.model", "plugin.interfaces", "plugin.records", "plugin.hookspecs")


def __getattr__(name: str) -> Any:
    """Import a name when it is first used (PEP 562), so that `--help` waits for none of them."""
    if name in __all__:
        for room in _ROOMS:
            found = getattr(import_module(f"{__name__}.{room}"), name, None)
            if found is not None:
                return found
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")


def read_batch(batch: Batch) -> pa.Table:
    """Read the staged events of a batch as a table of `cfaudit_export.schema.schema()`, memory-mapped.

    Raises:
        OSError: the staged file is gone or unreadable.
    """
    import pyarrow as pa  # the door stays light

    with pa.memory_map(str(batch.path)) as mapped:
        return pa.ipc.open_file(mapped).read_all()
