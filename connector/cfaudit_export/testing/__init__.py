"""Suites that prove a plugin keeps its contract, and what its tests need. For plugin authors; needs pytest.

Subclass a suite in a test module of your own: each one's docstring shows how.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cfaudit_export.testing.batches import make_batch
    from cfaudit_export.testing.sink_contract import SinkContract, SinkTarget
    from cfaudit_export.testing.source_contract import SourceContract, SourceTarget
    from cfaudit_export.testing.store_contract import CheckpointStoreContract, full_checkpoint

__all__ = [
    "CheckpointStoreContract",
    "SinkContract",
    "SinkTarget",
    "SourceContract",
    "SourceTarget",
    "full_checkpoint",
    "make_batch",
]

_HOMES = {
    "CheckpointStoreContract": "store_contract",
    "SinkContract": "sink_contract",
    "SinkTarget": "sink_contract",
    "SourceContract": "source_contract",
    "SourceTarget": "source_contract",
    "full_checkpoint": "store_contract",
    "make_batch": "batches",
}


def __getattr__(name: str) -> Any:
    """Import a suite when it is asked for, so that the package itself needs neither pytest nor pyarrow."""
    if name not in _HOMES:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    home = f"{__name__}.{_HOMES[name]}"
    if home.endswith("_contract") and home not in sys.modules:
        import pytest

        # A suite is no test module; without this its failing assertions would not show their values.
        pytest.register_assert_rewrite(home, f"{__name__}.comparison")
    return getattr(import_module(home), name)
