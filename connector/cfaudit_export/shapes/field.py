"""Fields of a shape as data, and the SQL that puts them together: what is empty is left out, whole objects too."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class ShapeField:
    """A field of a shape.

    Attributes:
        path: its name, and those of the objects around it, between dots.
        sql: its value, from the columns of the schema and those that the shape computes first.
        kinds: the kinds of events that have it; all where there are none.
        since: the first version that has it.
        before: the version from which on it is no longer used.
        is_constant: whether it is the same for all events, and so no reason for an object to be there.
    """

    path: str
    sql: str
    kinds: tuple[int, ...] = ()
    since: str = "0"
    before: str = "999"
    is_constant: bool = False

    def is_in(self, version: str) -> bool:
        """Say whether a version has it."""
        return ordered(self.since) <= ordered(version) < ordered(self.before)


def ordered(version: str) -> tuple[int, ...]:
    """Return a version as numbers, which compare as versions do."""
    return tuple(int(part) for part in version.split("."))


@dataclass(slots=True)
class _Place:
    """An object that is put together: its fields, and its objects, in order."""

    parts: dict[str, _Place | Sequence[ShapeField]] = field(default_factory=dict)


def nested_columns(fields: Iterable[ShapeField], kind: str) -> dict[str, str]:
    """Return the SQL of each field and object at the top, by name, in DuckDB's SQL.

    Args:
        fields: the fields of one version; of several with one path and other kinds each is for its own.
        kind: the column that says which kind of event a row is.
    """
    root = _Place()
    for one in fields:
        *above, name = one.path.split(".")
        place = root
        for part in above:
            below = place.parts.setdefault(part, _Place())
            assert isinstance(below, _Place), f"{one.path} leads through a field"  # noqa: S101  # the tables are ours
            place = below
        known = place.parts.get(name, ())
        assert not isinstance(known, _Place), f"{one.path} is an object"  # noqa: S101  # the tables are ours
        place.parts[name] = (*known, one)
    return {name: _value(part, kind) for name, part in root.parts.items()}


def _value(part: _Place | Sequence[ShapeField], kind: str) -> str:
    if not isinstance(part, _Place):
        return _field(part, kind)
    members = ", ".join(f"'{name}': {_value(below, kind)}" for name, below in part.parts.items())
    there = _there(part, kind)
    built = f"{{{members}}}"
    return f"CASE WHEN {' OR '.join(there)} THEN {built} END" if there else built


def _field(alternatives: Sequence[ShapeField], kind: str) -> str:
    if len(alternatives) == 1 and not alternatives[0].kinds:
        return alternatives[0].sql
    whens = " ".join(f"WHEN {_is_of(one, kind)} THEN {one.sql}" for one in alternatives)
    return f"CASE {whens} END"


def _is_of(one: ShapeField, kind: str) -> str:
    return f"{kind} IN ({', '.join(map(str, one.kinds))})" if one.kinds else "true"


def _there(place: _Place, kind: str) -> list[str]:
    """Return what makes an object worth being there; nothing for one that always is."""
    found = []
    for part in place.parts.values():
        if isinstance(part, _Place):
            found += _there(part, kind)
        else:
            found += [f"({_field([one], kind)}) IS NOT NULL" for one in part if not one.is_constant]
    return found
