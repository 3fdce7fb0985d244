"""Transforms of plugins: applied in order, and each checked, because what it may not do makes doubles or holes.

A transform may change values, blank them and drop rows. Which event a row is stays as it was: sinks and checkpoints
know it by that.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from traceback import extract_tb
from typing import TYPE_CHECKING

from cfaudit_export.errors import CfauditError, TransformError
from cfaudit_export.plugin.blame import report_to

if TYPE_CHECKING:
    import pyarrow as pa

FIXED = ("event_id", "event_key", "event_time", "account_id", "fidelity", "source", "ingested_at", "replaces")
"""Columns that no transform may change."""


@dataclass(frozen=True, slots=True)
class NamedTransform:
    """A transform, built.

    Attributes:
        name: the name of the plugin.
        apply: takes a table of the schema and returns one.
        digest: SHA-256 of its settings without secrets, hex.
    """

    name: str
    apply: Callable[[pa.Table], pa.Table]
    digest: str = ""

    @property
    def told(self) -> str:
        """Return what manifests say of it."""
        return f"{self.name}:{self.digest}"


@dataclass(frozen=True, slots=True)
class Transforms:
    """What is applied to events, in order.

    Attributes:
        of_run: to all of them, before anything else is done.
        of_sinks: by the names of sinks, to what one of them gets.
    """

    of_run: tuple[NamedTransform, ...] = ()
    of_sinks: Mapping[str, tuple[NamedTransform, ...]] = field(default_factory=dict)

    def of_sink(self, sink: str) -> tuple[NamedTransform, ...]:
        """Return those of one sink alone."""
        return self.of_sinks.get(sink, ())

    def upon(self, sink: str) -> tuple[NamedTransform, ...]:
        """Return all that what a sink gets goes through."""
        return (*self.of_run, *self.of_sink(sink))

    @property
    def all(self) -> tuple[NamedTransform, ...]:
        """Return each of them once."""
        named = {one.name: one for some in (self.of_run, *self.of_sinks.values()) for one in some}
        return tuple(named.values())


def transformed(table: pa.Table, transforms: Iterable[NamedTransform]) -> pa.Table:
    """Let transforms at the rows, in order.

    Raises:
        TransformError: one changed the schema or the identity of an event, made rows or moved them, or failed.
    """
    for transform in transforms:
        changed = _applied(table, transform)
        if changed is not table:
            _check(table, changed, transform.name)
        table = changed
    return table


def _applied(table: pa.Table, transform: NamedTransform) -> pa.Table:
    try:
        return transform.apply(table)
    except CfauditError:
        raise
    except Exception as error:  # noqa: BLE001  # a stranger's code, which has seen the events
        # The text of the error is left out, and its chain with it: it may hold what was to be hidden.
        frame = extract_tb(error.__traceback__)[-1]
        where = f"{Path(frame.filename).name}:{frame.lineno}"
        raise TransformError(
            f"transform '{transform.name}' failed with {type(error).__name__} at {where}; "
            f"{report_to(error, 'with that place')}"
        ) from None


def _check(given: pa.Table, changed: pa.Table, name: str) -> None:
    import pyarrow.compute as pc

    if changed.schema != given.schema:
        raise TransformError(f"transform '{name}' changed the schema; it may only change, blank or drop values")
    left = given
    if not changed["event_key"].equals(given["event_key"]):
        at = pc.index_in(changed["event_key"], value_set=given["event_key"].combine_chunks())
        if at.null_count:
            raise _renamed(name, "event_key", at.null_count)
        places = at.combine_chunks()
        if pc.all(pc.greater(places[1:], places[:-1])).as_py() is False:
            raise TransformError(f"transform '{name}' repeated rows or changed their order; it may only drop rows")
        left = given.select(FIXED).take(places)
    for column in FIXED:
        if not left[column].equals(changed[column]):
            same = pc.equal(left[column], changed[column])
            both = pc.and_(pc.is_null(left[column]), pc.is_null(changed[column]))
            kept = pc.sum(pc.or_(pc.fill_null(same, fill_value=False), both)).as_py() or 0
            raise _renamed(name, column, changed.num_rows - kept)


def _renamed(name: str, column: str, rows: int) -> TransformError:
    return TransformError(
        f"transform '{name}' changed {column} of {rows} rows; it may change, blank or drop, but not rename events"
    )
