"""The wheel: what `pip install` brings, and nothing else."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
CONTRIBUTING = (ROOT / ".github" / "CONTRIBUTING.md").read_text(encoding="utf-8")
PACKAGES = [
    path for root in ("connector", "plugins") for path in (ROOT / root).iterdir() if (path / "py.typed").exists()
]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """Return the wheel, built from a copy of this repository."""
    folder = tmp_path_factory.mktemp("packaging")
    ignore = shutil.ignore_patterns(".git", ".venv", ".*_cache", ".hypothesis", "__pycache__", "demo", "dist", "build")
    shutil.copytree(ROOT, folder / "source", ignore=ignore)
    # A build from the same sources gives what a release has.
    first, again = (_built(folder / "source", folder / name) for name in ("dist", "again"))
    assert first.read_bytes() == again.read_bytes(), "a wheel is the same whenever it is built"
    path = first
    with zipfile.ZipFile(path) as opened:
        yield opened


def _built(source: Path, into: Path) -> Path:
    """Build the wheel; its files look as if they were changed just now."""
    (source / "README.md").touch()
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(into)]
    done = subprocess.run(build, cwd=source, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    [path] = into.iterdir()
    return path


def test_it_holds_every_module_and_marks_the_packages_as_typed(wheel: zipfile.ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    expected = {
        str(path.relative_to(package.parent))
        for package in PACKAGES
        for path in package.rglob("*")
        if path.is_file() and "cache" not in str(path.parent.relative_to(package.parent))
    }
    assert held == expected
    assert {f"{package.name}/py.typed" for package in PACKAGES} <= held


def test_every_plugin_is_packaged() -> None:
    folders = {path.name for path in (ROOT / "plugins").iterdir() if (path / "__init__.py").exists()}
    packaged = {Path(path).name for path in PYPROJECT["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]}
    assert folders | {"cfaudit_export", "cfaudit_sandbox"} == packaged == {package.name for package in PACKAGES}


def test_every_plugin_enters_by_the_group_for_plugins(wheel: zipfile.ZipFile) -> None:
    parser = ConfigParser()
    parser.read_string(_info(wheel, "entry_points.txt"))
    assert dict(parser["console_scripts"]) == {"cfaudit-export": "cfaudit_export.cli:main"}
    # A provider of Airflow enters there, and not here.
    groups = ("cfaudit_export", "apache_airflow_provider")
    modules = {entry.partition(":")[0] for group in groups for entry in parser[group].values()}
    assert {package.name for package in PACKAGES} - {"cfaudit_export", "cfaudit_sandbox"} <= modules


def test_it_carries_the_licence_and_the_readme(wheel: zipfile.ZipFile) -> None:
    assert "Apache License" in _info(wheel, "licenses/LICENSE")
    about = _info(wheel, "METADATA")
    assert "License-Expression: Apache-2.0\n" in about
    assert (ROOT / "README.md").read_text(encoding="utf-8").strip() in about


def _info(wheel: zipfile.ZipFile, name: str) -> str:
    [path] = [path for path in wheel.namelist() if path.endswith(f".dist-info/{name}")]
    return wheel.read(path).decode()


def _names(requirements: list[str | dict[str, str]]) -> set[str]:
    named = [one for one in requirements if isinstance(one, str)]  # else it includes another group
    return {re.split(r"[\[><=; ]", requirement)[0] for requirement in named} - {"cfaudit-export"}


def test_every_dependency_has_its_paragraph_and_every_paragraph_its_dependency() -> None:
    project, groups = PYPROJECT["project"], PYPROJECT["dependency-groups"]
    lists = [project["dependencies"], *project["optional-dependencies"].values(), *groups.values()]
    page = CONTRIBUTING.partition("## Dependencies")[2]
    assert set(re.findall(r"\*\*([\w-]+)\*\*", page)) == set().union(*map(_names, lists))


def test_the_extra_all_is_all_extras_but_airflow() -> None:
    """Airflow is 130 distributions, and its users have it."""
    extras = PYPROJECT["project"]["optional-dependencies"]
    [everything] = extras["all"]
    assert set(everything.partition("[")[2].rstrip("]").split(",")) == extras.keys() - {"all", "airflow"}
