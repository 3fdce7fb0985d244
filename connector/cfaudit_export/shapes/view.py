"""The name of a shape -> a view over what is stored: no stored byte changes, and history is shaped too."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from cfaudit_export.core.suggest import nearest
from cfaudit_export.errors import SettingsError
from cfaudit_export.schema import COLUMNS
from cfaudit_export.shapes import cim, ocsf
from cfaudit_export.shapes.field import ShapeField, nested_columns

SHAPES = ("ocsf", "cim")


@dataclass(frozen=True, slots=True)
class _Table:
    """What a shape is made of; see the modules."""

    versions: tuple[str, ...]
    kind: str
    computed: Mapping[str, str]
    fields: Callable[[str], tuple[ShapeField, ...]]


def _table(shape: str) -> _Table:
    if shape == "ocsf":
        return _Table(ocsf.VERSIONS, ocsf.KIND, ocsf.COMPUTED, ocsf.fields)
    return _Table(cim.VERSIONS, cim.KIND, cim.COMPUTED, cim.fields)


def view_of(shape: str, version: str | None = None, *, keyword: str = "CREATE VIEW") -> str:
    """Return the statement that makes the view of a shape over `audit_events`, in DuckDB's SQL.

    The view is called as the shape, with `_events` behind it: `ocsf_events`. Shadows are no events, and are left out.

    Args:
        shape: the name of the shape.
        version: the version; by default the newest that is known.
        keyword: how the statement begins.

    Raises:
        SettingsError: there is no such shape, or no such version of it.
    """
    if shape not in SHAPES:
        raise SettingsError(f"unknown shape '{shape}'{nearest(shape, SHAPES)} (known: {', '.join(SHAPES)})")
    table = _table(shape)
    known = table.versions
    version = version or known[0]
    if version not in known:
        raise SettingsError(f"unknown version '{version}' of {shape}; known are {', '.join(known)}")
    made = nested_columns(table.fields(version), table.kind)
    columns = ",\n  ".join(f"{sql} AS {name}" for name, sql in made.items())
    texts = (column.name for column in COLUMNS if column.kind == "string" and not column.required)
    filled = ",\n    ".join(f"nullif({name}, '') AS {name}" for name in texts)  # what is empty says nothing
    computed = ",\n    ".join(f"{sql} AS {name}" for name, sql in table.computed.items())
    return (
        f"{keyword} {shape}_events AS\n"  # noqa: S608  # tables of ours
        f"WITH filled AS (\n  SELECT * REPLACE (\n    {filled}\n  )\n"
        f"  FROM audit_events WHERE fidelity <> 'shadow'\n),\n"
        f"shaped AS (\n  SELECT *,\n    {computed}\n  FROM filled\n)\n"
        f"SELECT\n  {columns}\nFROM shaped"
    )
