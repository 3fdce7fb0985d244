"""Whose fault an error is: a plugin's, with its version and its home, or the program's."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pytest

from cfaudit_export.plugin.blame import report_to

SOURCE = """
import pyarrow as pa

def breaks():
    raise RuntimeError("no event is told here")

def breaks_a_library():
    pa.array([1]).cast(pa.list_(pa.int8()))

def calls(work):
    work()
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., object]]:
    """Install a plugin with these lines in its metadata, and return its module."""
    monkeypatch.syspath_prepend(tmp_path)

    def install(*lines: str) -> object:
        (tmp_path / "cfaudit_blamed.py").write_text(SOURCE)
        info = tmp_path / "cfaudit_blamed-2.5.dist-info"
        info.mkdir()
        head = ("Metadata-Version: 2.1", "Name: cfaudit-blamed", "Version: 2.5")
        (info / "METADATA").write_text("\n".join((*head, *lines)) + "\n")
        (info / "entry_points.txt").write_text("[cfaudit_export]\nblamed = cfaudit_blamed\n")
        importlib.invalidate_caches()
        return importlib.import_module("cfaudit_blamed")

    yield install
    sys.modules.pop("cfaudit_blamed", None)


def said_of(work: Callable[[], object]) -> str:
    try:
        work()
    except Exception as error:  # noqa: BLE001  # whatever it is
        return report_to(error, "with the lines above")
    raise AssertionError("nothing was raised")


@pytest.mark.parametrize(
    ("lines", "place"),
    [
        ((), ", or where you got it from"),
        (("Home-page: https://blamed.example",), " at https://blamed.example"),
        (
            ("Project-URL: Homepage, https://blamed.example", "Project-URL: Bug Tracker, https://blamed.example/bugs"),
            " at https://blamed.example/bugs",
        ),
        (("Project-URL: Issues, javascript:alert(1)",), ", or where you got it from"),
    ],
)
def test_a_plugin_is_named_with_its_version_and_its_home(
    plugin: Callable[..., object], lines: tuple[str, ...], place: str
) -> None:
    module = plugin(*lines)
    said = f"this is a fault in the plugin cfaudit-blamed 2.5; report it to its author{place} with the lines above"
    assert said_of(module.breaks) == said  # type: ignore[attr-defined]  # written above
    assert said_of(module.breaks_a_library) == said  # type: ignore[attr-defined]  # as above


def test_a_group_is_as_its_first_error(plugin: Callable[..., object]) -> None:
    module = plugin()

    def work() -> None:
        try:
            module.breaks()  # type: ignore[attr-defined]  # written above
        except RuntimeError as error:
            raise ExceptionGroup("several", [error]) from None

    assert "cfaudit-blamed 2.5" in said_of(work)


def test_what_our_own_code_raises_is_ours_whoever_called_it(plugin: Callable[..., object]) -> None:
    from cfaudit_export.core.model import Window
    from cfaudit_export.core.times import parse_moment

    module = plugin()
    ours = "this is a fault in the program; please report it with the lines above"
    assert said_of(lambda: module.calls(lambda: Window(5, 4))) == ours  # type: ignore[attr-defined, arg-type]  # as above
    assert said_of(lambda: parse_moment(5, 4)) == ours  # type: ignore[arg-type]  # a fault is what is wanted
    assert said_of(lambda: pa.array([1]).cast(pa.list_(pa.int8()))) == ours
