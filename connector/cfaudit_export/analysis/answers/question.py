"""What is asked: a period, accounts, filters, a time zone -> the condition on events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cfaudit_export.core.model import Window
from cfaudit_export.errors import UsageError

# Filters are named as in the tool; a column of the schema is named the same, but for this one.
_COLUMNS = {"audit_log_id": "event_id"}
_FOLDED = ("actor_email",)  # upper and lower case are the same mailbox


@dataclass(frozen=True, slots=True)
class Question:
    """Which events are asked about, and in which time zone the answer is given.

    Attributes:
        period: the time asked about.
        accounts: only these; all if there are none.
        filters: name of a filter to the value that its column must have.
        zone: IANA name of the time zone.
    """

    period: Window
    accounts: tuple[str, ...] = ()
    filters: Mapping[str, str] = field(default_factory=dict)
    zone: str = "UTC"

    @property
    def before(self) -> Window:
        """Return the period of the same length just before."""
        return Window(self.period.since - self.period.duration, self.period.since)

    def local(self, at: datetime) -> datetime:
        """Return a moment in the time zone of the answer."""
        return at.astimezone(time_zone(self.zone))

    def condition(self) -> tuple[str, dict[str, Any]]:
        """Return SQL that is true of the events asked about at any time, and the values of its parameters."""
        values: dict[str, Any] = {f"account_{at}": account for at, account in enumerate(self.accounts)}
        clauses = [f"account_id IN ({', '.join(f'${name}' for name in values)})"] if values else ["TRUE"]
        for name, value in sorted(self.filters.items()):
            column = _COLUMNS.get(name, name)
            given = f"lower({column}) = lower(${name})" if name in _FOLDED else f"{column}::VARCHAR = ${name}"
            clauses.append(given)
            values[name] = str(value)
        return " AND ".join(clauses), values


def time_zone(name: str) -> ZoneInfo:
    """Return a time zone.

    Raises:
        UsageError: none is so named.
    """
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"unknown time zone '{name}'; use a name such as 'Europe/Berlin'") from None
