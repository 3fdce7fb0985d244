"""A stranger's sink, built and installed by pip: it is found, it keeps the contract, bad neighbours are named."""

from __future__ import annotations

import importlib
import json
import os
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import pyarrow as pa
import pytest

from cfaudit_export import Batch
from cfaudit_export.schema import schema
from cfaudit_export.testing import SinkContract, SinkTarget

SAMPLE = Path(__file__).parents[1] / "sample_plugin"


def pip_install(target: Path, *projects: Path) -> None:
    """Build the projects with what is installed here, without asking any index, and install them beside the rest."""
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = ["--no-index", "--no-deps", "--no-build-isolation", "--target", str(target)]
    done = subprocess.run(
        [*pip, *offline, *map(str, projects)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr


def project(folder: Path, distribution: str, module: str, text: str) -> Path:
    """Make a project like the sample, under other names and with another module."""
    folder.mkdir()
    pyproject = (SAMPLE / "pyproject.toml").read_text()
    pyproject = pyproject.replace('"cfaudit-export-ndjson"', f'"{distribution}"').replace("cfaudit_ndjson", module)
    (folder / "pyproject.toml").write_text(pyproject.replace("ndjson =", f"{module} ="))
    (folder / f"{module}.py").write_text(text)
    return folder


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder into which pip installed the sample, built from a copy of its source."""
    folder = tmp_path_factory.mktemp("third-party")
    shutil.copytree(SAMPLE, folder / "source", ignore=shutil.ignore_patterns("__pycache__"))
    pip_install(folder / "site", folder / "source")
    return folder / "site"


@pytest.fixture(scope="module")
def bad_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a plugin that cannot be imported and one that claims the sample's name."""
    folder = tmp_path_factory.mktemp("bad-neighbours")
    pip_install(
        folder / "site",
        project(folder / "csv", "cfaudit-export-csv", "cfaudit_csv", "import a_library_that_is_not_there\n"),
        project(folder / "fork", "cfaudit-ndjson-fork", "ndjson_fork", (SAMPLE / "cfaudit_ndjson.py").read_text()),
    )
    return folder / "site"


HEADER = """
import json, sys
from pathlib import Path
from cfaudit_export.errors import PluginError
from cfaudit_export.plugin.registry import build_config, load_plugins
from cfaudit_export.testing import make_batch

def refusal(name):
    try:
        plugins.sink(name)
    except PluginError as error:
        return str(error)

plugins = load_plugins()
"""


def run_with(script: str, *sites: Path, arguments: tuple[object, ...] = (), **environ: str) -> Any:
    """Run the script in a process that sees the sites as installed; return what it printed, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", HEADER + script, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sites)), **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_an_installed_sink_is_offered_with_its_distribution(site: Path) -> None:
    found = run_with(
        """
offer = plugins.sinks["ndjson"]
print(json.dumps([offer.distribution, offer.version, offer.module, offer.record.summary, len(plugins.broken)]))
""",
        site,
    )
    assert found == [
        "cfaudit-export-ndjson",
        "0.1.0",
        "cfaudit_ndjson",
        "newline-delimited JSON, one file per batch",
        0,
    ]


def test_an_installed_sink_is_built_from_settings_and_stores_a_batch_once(site: Path, tmp_path: Path) -> None:
    script = """
record = plugins.sink("ndjson")
sink = record.build(build_config(record, {"path": sys.argv[1] + "/out"}, "sinks.ndjson"))
batch = make_batch(Path(sys.argv[1]), rows=1000)
receipt = sink.load(batch)
print(json.dumps([batch.batch_id, receipt.rows, receipt.already, receipt.locations]))
"""
    first = run_with(script, site, arguments=(tmp_path,))
    second = run_with(script, site, arguments=(tmp_path,))
    path = tmp_path / "out" / f"{first[0]}.ndjson"
    assert first == [first[0], 1000, False, [str(path)]]
    assert second == [first[0], 1000, True, [str(path)]]
    assert [*path.parent.iterdir()] == [path]
    assert len({json.loads(line)["event_id"] for line in path.read_text().splitlines()}) == 1000


def test_settings_that_do_not_fit_are_refused_by_key(site: Path) -> None:
    message = run_with(
        """
try:
    build_config(plugins.sink("ndjson"), {"path": "x", "pah": "y"}, "sinks.ndjson")
except Exception as error:
    print(json.dumps(f"{type(error).__name__}: {error}"))
""",
        site,
    )
    assert message == "SettingsError: unknown key 'sinks.ndjson.pah'; did you mean 'path'? (known: path)"


def test_bad_neighbours_are_named_and_leave_the_built_in_sinks_alone(site: Path, bad_site: Path) -> None:
    names, conflict, broken, errors = run_with(
        """
print(json.dumps([[*plugins.sinks], refusal("ndjson"), refusal("cfaudit_csv"), [one.error for one in plugins.broken]]))
""",
        site,
        bad_site,
    )
    assert "parquet" in names
    assert "ndjson" not in names
    assert conflict == (
        "sink 'ndjson' is offered more than once, by cfaudit-export-ndjson 0.1.0 (cfaudit_ndjson) "
        "and cfaudit-ndjson-fork 0.1.0 (ndjson_fork); uninstall all but one"
    )
    assert broken == (
        "plugin 'cfaudit_csv' of cfaudit-export-csv 0.1.0 is broken, repair or upgrade it: "
        "ModuleNotFoundError: No module named 'a_library_that_is_not_there'"
    )
    assert errors == ["ModuleNotFoundError: No module named 'a_library_that_is_not_there'"]


def test_a_plugin_that_is_switched_off_settles_the_conflict(site: Path, bad_site: Path) -> None:
    script = 'print(json.dumps([plugins.sinks["ndjson"].distribution, [one.entry_point for one in plugins.disabled]]))'
    found = run_with(script, site, bad_site, CFAUDIT_DISABLED_PLUGINS="ndjson_fork,cfaudit_csv")
    assert found == ["cfaudit-export-ndjson", ["cfaudit_csv", "ndjson_fork"]]


def test_a_sink_that_is_not_installed_is_answered_with_the_nearest_that_is(site: Path) -> None:
    message = run_with('print(json.dumps(refusal("ndjsn")))', site)
    assert re.match(r"no sink 'ndjsn' is installed; did you mean 'ndjson'\? \(installed: .*ndjson.*parquet", message)
    assert "ndjson" not in run_with('print(json.dumps(refusal("ndjsn")))')


@pytest.fixture
def installed(site: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(site)
    yield importlib.import_module("cfaudit_ndjson")
    del sys.modules["cfaudit_ndjson"]


DYING_LOAD = """
import os, pickle, signal, sys
from pathlib import Path
from cfaudit_ndjson import NdjsonConfig, NdjsonSink
batch = pickle.load(sys.stdin.buffer)
setattr(os, sys.argv[1], lambda *_: os.kill(os.getpid(), signal.SIGKILL))
NdjsonSink(NdjsonConfig(Path(sys.argv[2]))).load(batch)
"""


class TestTheSampleKeepsTheContract(SinkContract):
    many: ClassVar[int] = 10_000

    @pytest.fixture
    def target(self, installed: ModuleType, site: Path, tmp_path: Path) -> SinkTarget:
        folder = tmp_path / "out"

        def stored() -> pa.Table:
            lines = [line for path in folder.glob("*.ndjson") for line in path.read_text().splitlines()]
            return pa.Table.from_pylist([_timed(json.loads(line)) for line in lines], schema=schema())

        def killed_before(step: str) -> Callable[[Batch], None]:
            def load(batch: Batch) -> None:
                command = [sys.executable, "-c", DYING_LOAD, step, str(folder)]
                environ = {**os.environ, "PYTHONPATH": str(site)}
                done = subprocess.run(command, input=pickle.dumps(batch), env=environ, timeout=60, check=False)
                assert done.returncode == -9

            return load

        interrupted = tuple(killed_before(step) for step in ("fsync", "replace"))
        return SinkTarget(lambda: installed.NdjsonSink(installed.NdjsonConfig(folder)), stored, interrupted)


def _timed(row: dict[str, Any]) -> dict[str, Any]:
    return row | {name: datetime.fromisoformat(row[name]) for name in ("event_time", "ingested_at")}
