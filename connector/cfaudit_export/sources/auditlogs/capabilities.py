"""The tool's input schema -> what can be asked of it. What it does not know it drops without a word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from cfaudit_export.errors import ProtocolError
from cfaudit_export.sources.mcp.tools import properties_of
from cfaudit_export.sources.paging.facets import Filter
from cfaudit_export.sources.paging.query import MOST_ROWS

_NO_FILTERS = {"since", "before", "direction", "limit", "cursor", "account_id"}


@dataclass(frozen=True, slots=True)
class ToolCapabilities:
    """What the tool takes.

    Attributes:
        filters: values that each filter can have; empty where it takes any.
        most_rows: rows that a page can have.
    """

    filters: Mapping[str, tuple[str, ...]]
    most_rows: int = MOST_ROWS

    def takes(self, filters: Iterable[Filter]) -> bool:
        """Say whether the tool applies all of these."""
        return all(
            name in self.filters and (not self.filters[name] or value in self.filters[name]) for name, value in filters
        )

    def check(self, filters: Iterable[Filter]) -> None:
        """Refuse filters that the tool would not apply.

        Raises:
            ProtocolError: there is one.
        """
        for name, value in filters:
            if name not in self.filters:
                raise ProtocolError(f"the server would silently ignore the filter '{name}'; its tool has no such one")
            if not self.takes([(name, value)]):
                raise ProtocolError(f"the server does not filter '{name}' by '{value}' any more")

    def candidates(self, known: Mapping[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
        """Return which values are worth asking for: those that the tool takes, and what it takes beyond."""
        found = {}
        for name, values in known.items():
            taken = [value for value in values if self.takes([(name, value)])]
            found[name] = (*taken, *(one for one in self.filters.get(name, ()) if one and one not in values))
        return {name: values for name, values in found.items() if values}


def read_capabilities(schema: Mapping[str, Any]) -> ToolCapabilities:
    """Read the input schema of the tool."""
    properties = properties_of(schema)
    most = properties.get("limit", {}).get("maximum")
    return ToolCapabilities(
        {name: _values(body.get("enum")) for name, body in properties.items() if name not in _NO_FILTERS},
        int(most) if isinstance(most, int | float) and 1 <= most < MOST_ROWS else MOST_ROWS,
    )


def _values(enum: Any) -> tuple[str, ...]:
    """Return the texts that a filter can have; none where it takes any."""
    return tuple(one for one in enum if isinstance(one, str)) if isinstance(enum, list) else ()
