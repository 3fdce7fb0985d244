"""A report in, its tables out: the same rows for a terminal and for HTML, there with more columns.

A column named `>...` holds numbers. The last column, without a name, holds a mark such as `new` or `FAILED`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from itertools import groupby

from cfaudit_export.analysis.answers.facts import Change, CredentialUse, Ranked, Report
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.vocabulary import SENSITIVE, Actor, UsedCredential
from cfaudit_export.analysis.render.phrases import UNKNOWN, change, moment, newness, ratio

FAILED = "FAILED"
NEW = "new"
SHADES = 4
"""How many shades a heat map has for hours that are not empty."""

WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


@dataclass(frozen=True, slots=True)
class Table:
    """Columns and rows of text; `left` rows more are not in it."""

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    left: int = 0

    def first(self, count: int) -> Table:
        """Return the table cut to its first rows."""
        return Table(self.columns, self.rows[:count], self.left + max(len(self.rows) - count, 0))

    def without(self, column: str) -> Table:
        """Return the table without a column, if that is empty in every row."""
        at = self.columns.index(column)
        if any(row[at] for row in self.rows):
            return self
        kept = [(*row[:at], *row[at + 1 :]) for row in (self.columns, *self.rows)]
        return Table(kept[0], tuple(kept[1:]), self.left)


def totals(report: Report) -> Table:
    """Counts of the period and of the one before."""
    found = report.totals
    counts = [("events", found.events), ("actors", found.actors)]
    counts += [("failures", found.failures), ("sign-ins", found.sign_ins)]
    counts += [(f"action {one.name}", one.events) for one in found.actions]
    counts += [(f"credential {UsedCredential(str(one.name)).shown}", one.events) for one in found.credentials]
    return _compared("what", counts)


def products(report: Report) -> Table:
    """Events by product."""
    return _ranked("product", report.products)


def types(report: Report) -> Table:
    """Events by type of resource."""
    return _ranked("type", report.types)


def sorts(report: Report) -> Table:
    """Sensitive changes by sort."""
    return _compared("sort", [(SENSITIVE[str(one.name)], one.events) for one in report.sensitive])


def days(report: Report) -> Table:
    """Events and failures by day."""
    rows = [(f"{WEEKDAYS[one.day.weekday()]} {one.day}", f"{one.events:,}", f"{one.failures:,}") for one in report.days]
    return Table(("day", ">events", ">failures"), tuple(rows))


def hours(report: Report) -> Table:
    """Events by day, or weekday, and hour."""
    found = {(cell.day, cell.hour): cell.events for cell in report.heat}
    rows = [
        (label(day), *(str(found[day, hour]) if (day, hour) in found else "" for hour in range(24)))
        for day in heat_days(report)
    ]
    return Table(("day", *(f">{hour}" for hour in range(24))), tuple(rows))


def heat_days(report: Report) -> list[date | int]:
    """Return the rows of the heat map: the days of the period, or the days of the week in a long one."""
    weekly = any(isinstance(cell.day, int) for cell in report.heat)
    return list(range(7)) if weekly else [one.day for one in report.days]


def label(day: date | int) -> str:
    """Return the name of a row of the heat map."""
    return WEEKDAYS[day] if isinstance(day, int) else f"{WEEKDAYS[day.weekday()]} {day:%m-%d}"


def shade(events: int, most: int) -> int:
    """Return the shade of an hour, from 0 for an empty one to `SHADES` for the busiest."""
    return 1 + SHADES * (events - 1) // most if events else 0


def actors(report: Report) -> Table:
    """What each actor did."""
    rows = [
        (one.actor.shown, f"{one.events.count:,}", *map(_or_dot, counts))
        for one in report.actors
        for counts in [(one.creates, one.updates, one.deletes, one.other, one.unknown)]
    ]
    return Table(("actor", ">events", ">create", ">update", ">delete", ">other", ">unknown"), tuple(rows))


def failures(report: Report) -> Table:
    """Failures of each actor, the share of those whose result is known, and how many are not."""
    failed = sorted((one for one in report.actors if one.outcome.failures), key=lambda one: -one.outcome.failures)
    rows = [
        (one.actor.shown, f"{one.outcome.failures:,}", ratio(one.outcome), f"{one.outcome.unknown:,}") for one in failed
    ]
    return Table(("actor", ">failures", ">of known", ">unknown"), tuple(rows))


def credentials(report: Report) -> Table:
    """Which credentials each actor used, when first and last, and whether that is new."""
    rows = [(one.actor.shown, *_use(report, one, short=False)) for one in report.credentials]
    return Table(("actor", "credential", ">events", "first", "last", ""), tuple(rows))


def credentials_by_actor(report: Report, most: int) -> Table:
    """The first of the same, with the credentials of an actor below its name."""
    rows: list[tuple[str, ...]] = []
    for actor, used in groupby(report.credentials[:most], key=lambda one: one.actor):
        rows.append((actor.shown, "", "", "", ""))
        for one in used:
            credential, *rest = _use(report, one, short=True)
            rows.append((f"  {credential}", *rest))
    left = max(len(report.credentials) - most, 0)
    return Table(("actor, credential", ">events", "first", "last", ""), tuple(rows), left)


def _use(report: Report, one: CredentialUse, *, short: bool) -> tuple[str, ...]:
    first, last = (_time(report.question, at, short=short) for at in (one.first, one.last))
    return one.credential.shown, f"{one.events:,}", first, last, newness(one.is_new)


def newcomers(report: Report) -> Table:
    """Actors and products that are new."""
    found = [("actor", one) for one in report.new_actors or ()] + [
        ("product", one) for one in report.new_products or ()
    ]
    rows = [(kind, one.name, f"{one.events:,}", moment(report.question, one.first)) for kind, one in found]
    return Table(("what", "name", ">events", "first seen"), tuple(rows))


def sign_ins(report: Report, *, short: bool) -> Table:
    """Sign-ins of each actor."""
    most = 2 if short else 20
    rows = [
        (
            one.actor.shown,
            f"{one.events:,}",
            UNKNOWN if one.outcome.ratio is None else f"{one.outcome.failures:,}",
            _time(report.question, one.last, short=short),
            ", ".join(one.addresses[:most]) + (", ..." if len(one.addresses) > most else "") or UNKNOWN,
        )
        for one in report.sign_ins
    ]
    return Table(("actor", ">sign-ins", ">failed", "last", "from"), tuple(rows))


def changes(report: Report, *, short: bool) -> Table:
    """The latest sensitive changes."""
    rows: list[tuple[str, ...]] = []
    for one in report.changes:
        what = one.description or f"{one.action} {one.product or UNKNOWN}"
        mark = FAILED if one.result == "failure" else ""
        time = _time(report.question, one.time, short=short)
        if short:
            rows.append((time, one.actor.shown, UsedCredential(one.credential.kind).shown, what, mark))
            continue
        action = "delete, says the description" if one.by_description else one.action
        thing = "/".join(part for part in (one.product, one.type) if part) or UNKNOWN
        rows.append(
            (time, SENSITIVE[one.sort], *_who(one.actor, one.credential), action, what, thing, one.target or "", mark)
        )
    columns: tuple[str, ...] = ("time", "actor", "by", "what", "")
    if not short:
        columns = ("time", "sort", "actor", "by", "action", "what", "on", "target", "")
    total = sum(one.events.count for one in report.sensitive)
    table = Table(columns, tuple(rows), total - len(rows))
    return table if short else table.without("target")


def _ranked(name: str, found: Iterable[Ranked]) -> Table:
    return _compared(name, [(one.name or UNKNOWN, one.events) for one in found if one.events.count])


def _compared(name: str, counts: Iterable[tuple[str, Change]]) -> Table:
    rows = [
        (what, f"{one.count:,}", "-" if one.before is None else f"{one.before:,}", change(one)) for what, one in counts
    ]
    return Table((name, ">now", ">before", ">change"), tuple(rows))


def _who(actor: Actor, credential: UsedCredential) -> tuple[str, str]:
    return actor.shown, credential.shown


def _or_dot(count: int) -> str:
    return f"{count:,}" if count else "."


def _time(question: Question, at: datetime, *, short: bool) -> str:
    return moment(question, at, "%m-%d %H:%M" if short else "%Y-%m-%d %H:%M:%S")
