"""An answer in, one HTML file out that needs nothing else: no script, no font, no image, no network.

Whatever came from events is text: control characters and marks that reorder or hide are written out, then escaped. The
page's own policy forbids everything but its one style sheet, should that ever fail.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cfaudit_export.analysis.render.tables import Table
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.installing import install_command
from cfaudit_export.errors import SettingsError

_ROWS = 200
_TIMES = ("time", "first", "last", "first seen")


@dataclass(frozen=True, slots=True)
class TableColumn:
    """The head of a column, and what its cells are: `number`, `time`, `mark` or plain text."""

    name: str
    kind: str


@dataclass(frozen=True, slots=True)
class Shown:
    """A table as the page shows it; `left` says how many rows more there are."""

    caption: str
    columns: tuple[TableColumn, ...]
    rows: tuple[tuple[str, ...], ...]
    left: str


@dataclass(frozen=True, slots=True)
class Section:
    """A part of the page: a heading, a chart with its tables behind it, or tables alone.

    Attributes:
        id: of the heading.
        title: its text.
        tables: what is shown.
        chart: drawing of the same numbers.
        note: a sentence below the heading.
    """

    id: str
    title: str
    tables: tuple[Shown, ...]
    chart: Any = None
    note: str = ""


def drawing(drawn: str) -> Any:
    """Return a chart as a part of the page."""
    from markupsafe import Markup

    return Markup(drawn)  # noqa: S704  # drawn by us, and stripped to what draws


def shown(table: Table, caption: str = "") -> Shown:
    """Return a table as the page shows it."""
    cut = table.first(_ROWS)
    columns = tuple(TableColumn(name.removeprefix(">"), _kind(name)) for name in cut.columns)
    return Shown(caption, columns, cut.rows, f"{cut.left:,}" if cut.left else "")


def _kind(column: str) -> str:
    if column.startswith(">"):
        return "number"
    return "time" if column in _TIMES else "text" if column else "mark"


def render_page(template: str, **values: Any) -> str:
    """Return a page made of one of the templates in `pages`.

    Raises:
        SettingsError: what makes pages is not installed.
    """
    try:
        from jinja2 import Environment, PackageLoader, StrictUndefined
        from markupsafe import Markup
    except ImportError:
        raise SettingsError(f"HTML is not installed: run {install_command('analysis')}") from None

    loader = PackageLoader("cfaudit_export.analysis.render", "pages")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        keep_trailing_newline=True,
        finalize=lambda value: escaped(value) if isinstance(value, str) and not isinstance(value, Markup) else value,
    )
    style, _, _ = loader.get_source(environment, "page.css")
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    shared: Mapping[str, Any] = {"style": Markup(style), "style_hash": f"sha256-{digest}"}  # noqa: S704  # our own file
    return environment.get_template(template).render(**shared, **values)
