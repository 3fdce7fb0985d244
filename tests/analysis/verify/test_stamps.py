"""Timestamps beside manifests: true ones say when, and others show."""

from __future__ import annotations

import importlib.util
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.app.stamp import ask_timestamp
from cfaudit_export.proof.timestamp import Authorities, load_authorities


def _load() -> Any:
    """Import the authority that tests of `proof` have; test folders are not packages."""
    path = Path(__file__).parents[2] / "proof" / "conftest.py"
    spec = importlib.util.spec_from_file_location("proof_conftest", path)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


authority = _load().authority


@pytest.fixture
def believed(authority: Any) -> Authorities:
    return load_authorities([authority.root])


def stamp(export: Any, authority: Any, sequence: int) -> Path:
    path = export.path(sequence)
    kept: Path = path.with_name(path.name + ".tsr")
    kept.write_bytes(ask_timestamp(authority.url, path.read_bytes()))
    return kept


def test_stamped_manifests_are_proved_with_the_time_of_the_stamp(
    export: Any, authority: Any, believed: Authorities
) -> None:
    export.clock = datetime.now(UTC) - timedelta(hours=2)
    export.days(2)
    stamp(export, authority, 2)
    found = export.verify(authorities=believed)
    assert found.exit_code == 0, list(found.lines)
    [said] = [line for line in found.lines if "stamped" in line]
    assert said.startswith("1 manifests are stamped; number 2 at 20")
    assert export.verify().exit_code == 0


def test_a_stamp_of_another_manifest_shows(export: Any, authority: Any, believed: Authorities) -> None:
    export.clock = datetime.now(UTC) - timedelta(hours=3)
    export.days(2)
    stamp(export, authority, 2).rename(export.path(1).with_name("00000001.json.tsr"))
    found = export.verify(authorities=believed)
    assert found.exit_code == 1
    assert next(iter(found.lines)) == "Manifest 00000001  INVALID: its timestamp is not true: it is of another document"


def test_a_history_that_was_written_again_later_shows(export: Any, authority: Any, believed: Authorities) -> None:
    export.days(1)  # it says that it is of November, and is stamped now
    stamp(export, authority, 1)
    found = export.verify(authorities=believed)
    assert found.exit_code == 65
    assert " after the time it is dated" in next(iter(found.lines)) or " after its timestamp" in next(iter(found.lines))


def test_a_manifest_that_is_dated_after_its_stamp_shows(export: Any, authority: Any, believed: Authorities) -> None:
    export.clock = datetime.now(UTC) + timedelta(days=3)
    export.days(1)
    stamp(export, authority, 1)
    found = export.verify(authorities=believed)
    assert found.exit_code == 65
    assert "Manifest 00000001: dated 3d" in next(iter(found.lines))


def test_without_any_stamp_the_time_is_not_proved(export: Any, believed: Authorities) -> None:
    export.days(1)
    found = export.verify(authorities=believed)
    assert found.exit_code == 65
    assert "No manifest has a true timestamp" in list(found.lines)
