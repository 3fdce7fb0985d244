"""Relative paths of a settings file lie beside it, wherever the program is started."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from cfaudit_export.errors import SettingsError
from cfaudit_export.settings import Given, Settings, load_settings

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
TOML = """
state_dir = "state"
token_file = "token"
[sinks.parquet]
path = "out"
[sinks.splunk]
url = "https://splunk.example.com"
ca_file = "ca.pem"
[integrity]
key_file = "/keys/signing.pem"
"""


def load(file: Path, directory: Path) -> Settings:
    return load_settings(Given(file), environ={}, now=NOW, directory=directory)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    (tmp_path / "here").mkdir()
    (tmp_path / "etc" / "cfaudit.toml").write_text(TOML)
    return tmp_path / "etc" / "cfaudit.toml"


def test_paths_lie_beside_the_file(file: Path, tmp_path: Path) -> None:
    found = load(file, tmp_path / "here")
    assert (found.state_dir, found.token_file) == (file.parent / "state", file.parent / "token")
    assert found.sinks["parquet"]["path"] == str(file.parent / "out")
    assert found.sinks["splunk"] == {"url": "https://splunk.example.com", "ca_file": str(file.parent / "ca.pem")}
    assert found.integrity.key_file == Path("/keys/signing.pem")
    assert found.notices == ()


def test_in_the_folder_of_the_file_nothing_changes(file: Path) -> None:
    found = load(file, file.parent)
    assert (found.state_dir, found.sinks["parquet"]["path"]) == (Path("state"), "out")


def test_an_older_set_up_goes_on_where_it_was_and_is_told(file: Path, tmp_path: Path) -> None:
    (tmp_path / "here" / "state").mkdir()
    found = load(file, tmp_path / "here")
    assert found.state_dir == tmp_path / "here" / "state"
    assert found.sinks["parquet"]["path"] == str(file.parent / "out")
    [notice] = found.notices
    assert notice.startswith(f"'state_dir' in '{file}' is 'state': using '{found.state_dir}' of the working directory")


def test_a_path_that_may_be_meant_either_way_is_refused(file: Path, tmp_path: Path) -> None:
    (tmp_path / "here" / "state").mkdir()
    (file.parent / "state").mkdir()
    with pytest.raises(SettingsError, match=r"'state_dir' in .* is 'state', which is both .* and .*; write the whole"):
        load(file, tmp_path / "here")


def test_flags_and_variables_are_relative_to_the_working_directory(file: Path, tmp_path: Path) -> None:
    given = Given(file, flags={"state_dir": "mine"})
    environ = {"CFAUDIT_SINKS__PARQUET__PATH": "elsewhere"}
    found = load_settings(given, environ=environ, now=NOW, directory=tmp_path / "here")
    assert (found.state_dir, found.sinks["parquet"]["path"]) == (Path("mine"), "elsewhere")
