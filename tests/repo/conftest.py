"""What several tests of the repository compare it with."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

_RULES = Path(__file__).with_name("test_imports.py")


@pytest.fixture(scope="session")
def rules_of_imports() -> Iterator[ModuleType]:
    """The rules of imports: layers, and what is public."""
    name = "rules_of_imports"
    spec = importlib.util.spec_from_file_location(name, _RULES)
    assert spec
    assert spec.loader
    sys.modules[name] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules[name]
