"""The exports that tests of `verify` make, and what changes them on purpose."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.removal.record import Work
from cfaudit_export.analysis.removal.storage import FolderStorage
from cfaudit_export.analysis.removal.trusted import require_trusted_chains


def _load() -> Any:
    """Import what makes exports in tests of `verify`; test folders are not packages."""
    path = Path(__file__).parents[1] / "verify" / "conftest.py"
    spec = importlib.util.spec_from_file_location("exports_of_verify", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_EXPORTS = _load()
export = _EXPORTS.export
new_export = _EXPORTS.new_export
copied = _EXPORTS.copied


@pytest.fixture
def make() -> Callable[..., Any]:
    """Make an export in a folder."""
    return _EXPORTS.make_export  # type: ignore[no-any-return]  # of a module that is loaded by its path


@pytest.fixture
def working() -> Callable[..., Any]:
    """Return what the manifests of an export say, and what changes its files; the storage may be another one."""

    def work(export: Any, storage: Any = None, **more: Any) -> tuple[Any, Work]:
        keys = more.pop("keys", export.keys)
        trusted = require_trusted_chains(open_location(str(export.root)), keys)
        return trusted, Work(storage or FolderStorage(export.root), keys, lambda: export.clock, **more)

    return work
