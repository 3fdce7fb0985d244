"""What callers ask of columns -> a condition in SQL, with every value bound."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from cfaudit_export.core.escape import shown
from cfaudit_export.core.suggest import nearest
from cfaudit_export.errors import UsageError
from cfaudit_export.schema import COLUMNS

JSON_COLUMNS = frozenset(one.name for one in COLUMNS if one.kind == "json")
COLUMN_NAMES = tuple(one.name for one in COLUMNS)
# What the six-field source knows of every event; of other columns a row of it may not know what it would say.
_ALWAYS_KNOWN = {
    "event_id",
    "event_key",
    "event_time",
    "account_id",
    "account_name",
    "action_description",
    "actor_email",
    "actor_token_name",
    "resource_product",
    "resource_type",
    "fidelity",
    "source",
    "ingested_at",
    "batch_id",
    "replaces",
}
_MOST_VALUES = 200


def column(name: str, argument: str) -> str:
    """Return a name of a column.

    Raises:
        UsageError: there is none of that name.
    """
    if name not in COLUMN_NAMES:
        raise UsageError(f"{argument}: unknown column '{shown(name)}'{nearest(name, COLUMN_NAMES)}")
    return name


class Conditions:
    """Conditions on columns, all of which hold.

    Attributes:
        clauses: SQL.
        values: of its parameters.
        doubtful: columns of which a row that was not read whole may not know what it would say.
    """

    def __init__(self) -> None:
        self.clauses: list[str] = []
        self.values: dict[str, Any] = {}
        self.doubtful: list[str] = []

    def add(self, name: str, wanted: Any) -> None:
        """Add what is wanted of a column: a value, a list, `{"not": ...}`, `{"contains": ...}` or None for empty.

        Raises:
            UsageError: it is none of these.
        """
        said = f"{name}::VARCHAR"
        if isinstance(wanted, Mapping):
            [(word, value), *more] = wanted.items() or [("", None)]
            if word == "contains" and isinstance(value, str) and not more:
                self.clauses.append(f"contains(lower(coalesce({said}, '')), lower(${self._bound(value)}))")
            elif word == "not" and not more and not isinstance(value, Mapping):
                self.clauses.append(f"NOT coalesce(({self._equal(name, said, value)}), FALSE)")
            else:
                raise UsageError(f'where: of {name} expected a value, a list, {{"not": ...}} or {{"contains": text}}')
        else:
            self.clauses.append(self._equal(name, said, wanted))
        if name not in _ALWAYS_KNOWN:
            self.doubtful.append(name)

    def _equal(self, name: str, said: str, wanted: Any) -> str:
        if wanted is None:
            return f"coalesce({said}, '') = ''"
        listed = wanted if isinstance(wanted, list) else [wanted]
        if not listed or len(listed) > _MOST_VALUES or not all(isinstance(one, str | int | float) for one in listed):
            raise UsageError(f"where: of {name} expected texts or numbers, 1 to {_MOST_VALUES} of them")
        folds = name == "actor_email"
        bound = [f"lower(${self._bound(one)})" if folds else f"${self._bound(one)}" for one in listed]
        return f"{f'lower({said})' if folds else said} IN ({', '.join(bound)})"

    def _bound(self, value: Any) -> str:
        name = f"value_{len(self.values)}"
        self.values[name] = (
            value if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
        )
        return name

    def all(self) -> Iterator[str]:
        """Yield the clauses, or one that is true."""
        yield from self.clauses or ["TRUE"]

    def unjudged(self) -> str:
        """Return SQL that is true of events that may have been left out because a column of theirs is not known."""
        empty = " OR ".join(f"{name} IS NULL" for name in self.doubtful)
        return f"(fidelity <> 'full' AND ({empty}))" if empty else "FALSE"
