"""What the tests of several sinks share."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

SINKS = Path(__file__).parents[2] / "docs" / "sinks"


@dataclass(frozen=True, slots=True)
class Page:
    """The page about a sink."""

    text: str

    def section(self, title: str) -> str:
        """Return what stands below a heading, up to the next one."""
        return self.text.split(f"\n## {title}\n")[1].split("\n## ")[0]

    def blocks(self, language: str) -> list[str]:
        """Return the examples in a language."""
        return re.findall(rf"```{language}\n(.*?)```", self.text, re.DOTALL)

    def example(self) -> dict[str, Any]:
        """Return the settings of the page's example."""
        (example,) = self.blocks("toml")
        return tomllib.loads(example)

    def settings(self) -> dict[str, str]:
        """Return the keys that the page lists, with their defaults."""
        rows = re.findall(r"^\| `(\w+)` \| *`?([^`|]*?)`? *\|", self.section("Settings"), re.MULTILINE)
        assert len(dict(rows)) == len(rows), "a key is listed twice"
        return dict(rows)

    @staticmethod
    def settings_of(config: type[Any]) -> dict[str, str]:
        """Return the keys that a sink has, with their defaults as a page tells them."""
        return {field.name: _told(field) for field in dataclasses.fields(config)}


def _told(field: dataclasses.Field[Any]) -> str:
    default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
    if default in (None, "", dataclasses.MISSING):
        return ""
    return str(default).lower() if isinstance(default, bool) else str(default)


@pytest.fixture(scope="session")
def page_about() -> Callable[[str], Page]:
    """Return what reads the page about a sink."""
    return lambda sink: Page((SINKS / f"{sink}.md").read_text())
