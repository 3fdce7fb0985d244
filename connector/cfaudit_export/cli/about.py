"""The commands `plugins` and `schema`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfaudit_export.cli.command import command
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shapes import ShapeOption, ShapeVersion
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.errors import ExitCode, UsageError

if TYPE_CHECKING:
    from cfaudit_export.plugin.registry import Offer, Plugins

_FORMATS = {"table": "as_table", "arrow": "as_arrow", "bigquery": "as_bigquery", "json": "as_json_schema"}
_VIEW = "sql-view"


@command()
def plugins(shell: Shell, *, json: Json = False) -> int:
    """List installed plugins, and why broken ones fail."""
    from cfaudit_export.plugin.registry import load_plugins

    found = load_plugins(environ=shell.environ)
    if json:
        shell.terminal.answer(as_json(_listed(found)))
        return ExitCode.OK
    rows = [(one["kind"], one["name"], one["from"], one["needs"], one["summary"]) for one in _offers(found)]
    shell.terminal.table(("kind", "name", "from", "needs", "what it does"), rows)
    for broken in found.broken:
        shell.terminal.answer(f"broken: '{broken.entry_point}' of {broken.package}: {broken.error}")
    for conflict in found.conflicts:
        rivals = ", ".join(f"{rival.package} ({rival.module})" for rival in conflict.offers)
        shell.terminal.answer(
            f"conflict: {conflict.kind} '{conflict.name}' is offered by {rivals}; uninstall all but one"
        )
    for origin in found.disabled:
        shell.terminal.answer(f"switched off: '{origin.entry_point}' of {origin.package}")
    return ExitCode.OK


@command(
    epilog="""
Example:
  cfaudit-export schema --format bigquery > schema.json
  cfaudit-export schema --format sql-view --shape ocsf > ocsf.sql
"""
)
def schema(
    shell: Shell,
    *,
    form: Annotated[
        str, typer.Option("--format", help="output format (default: table)", metavar="|".join((*_FORMATS, _VIEW)))
    ] = "table",
    shape: ShapeOption = None,
    shape_version: ShapeVersion = None,
) -> int:
    """Print the schema of exported events."""
    if form not in (*_FORMATS, _VIEW):
        raise UsageError(f"--format: expected one of {', '.join((*_FORMATS, _VIEW))}, not '{form}'")
    if (form == _VIEW) != (shape is not None) or (shape_version and not shape):
        raise UsageError("--format sql-view and --shape need each other, as in --format sql-view --shape ocsf")
    if shape is not None:
        from cfaudit_export.shapes.view import view_of

        shell.terminal.answer(f"{view_of(shape, shape_version)};")
        return ExitCode.OK
    from cfaudit_export import schema_formats

    shell.terminal.answer(getattr(schema_formats, _FORMATS[form])())
    return ExitCode.OK


def _offers(found: Plugins) -> list[dict[str, str]]:
    from cfaudit_export.plugin.registry import missing_requirements

    kinds: dict[str, Mapping[str, Offer[Any]]] = {
        "source": found.sources,
        "sink": found.sinks,
        "checkpoint store": found.stores,
        "transform": found.transforms,
    }
    return [
        {
            "kind": kind,
            "name": name,
            "from": offer.package,
            "needs": ", ".join(missing_requirements(offer)),
            "summary": offer.record.summary,
        }
        for kind, offers in kinds.items()
        for name, offer in offers.items()
    ]


def _listed(found: Plugins) -> dict[str, Any]:
    return {
        "offers": _offers(found),
        "broken": found.broken,
        "conflicts": [
            {"kind": one.kind, "name": one.name, "from": [rival.package for rival in one.offers]}
            for one in found.conflicts
        ],
        "disabled": found.disabled,
    }
