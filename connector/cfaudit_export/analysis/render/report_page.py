"""A report in, its HTML page out: every chart with the table that says the same."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from cfaudit_export.analysis.answers.facts import Change, Report
from cfaudit_export.analysis.answers.vocabulary import CREDENTIALS, UsedCredential
from cfaudit_export.analysis.render import charts, phrases, tables
from cfaudit_export.analysis.render.charts import Bars
from cfaudit_export.analysis.render.html import Section, drawing, render_page, shown
from cfaudit_export.analysis.render.tables import Table

_BARS = 12
_ACTIONS = {"create": "c2", "update": "c1", "delete": "c3", "other": "c4", "unknown": "c5"}
_CREDENTIALS = {
    "dash": "c1",
    "api_key": "c3",
    "api_token": "c2",
    "oauth": "c4",
    "origin_ca_key": "c6",
    "api": "c7",
    "unknown": "c5",
}


def report_page(report: Report, first: Iterable[Section] = ()) -> str:
    """Return the report as HTML; `first` are sections before its own.

    Raises:
        SettingsError: what draws it is not installed.
    """
    totals = report.totals
    counts = [("events", totals.events), ("actors", totals.actors)]
    counts += [("failures", totals.failures), ("sign-ins", totals.sign_ins)]
    return render_page(
        "report.html",
        title="Audit report",
        head=_head(report),
        made_at=phrases.moment(report.question, report.made_at),
        remarks=phrases.remarks(report),
        tiles=[(name, phrases.number(one.count), _against(one)) for name, one in counts],
        sections=[*first, *_sections(report)],
    )


def _head(report: Report) -> list[str]:
    asked = phrases.filters(report.question)
    head = [phrases.period(report.question), f"Data: {report.location}", *([f"Only {asked}"] if asked else [])]
    return [*head, *([f"Proof: {report.proof}"] if report.proof else [])]


def _against(one: Change) -> str:
    return "" if one.before is None else f"before: {one.before:,} ({phrases.change(one)})"


def _sections(report: Report) -> Iterator[Section]:
    yield Section("days", "Activity by day", (shown(tables.days(report)),), _days(report))
    hours = f"hours of {report.question.zone}"
    yield Section("hours", "Activity by day and hour", (shown(tables.hours(report)),), _hours(report), hours)
    yield Section("actors", "Top actors", (shown(tables.actors(report)),), _actors(report))
    yield Section("products", "Top products", (shown(tables.products(report)),), _ranked(report, "products"))
    yield Section("types", "Top resource types", (shown(tables.types(report)),), _ranked(report, "types"))
    yield Section("totals", "Totals", (shown(tables.totals(report)),))
    yield _listed("failures", "Failures", tables.failures(report), phrases.no_failures(report))
    yield Section(
        "credentials",
        "Credential use",
        (shown(tables.credentials(report)),),
        _credentials(report),
        "by what each actor acted, first and last seen in the period, and whether the data before knows that use",
    )
    is_known = report.new_actors is not None
    none = "none" if is_known else "unknown: the data has nothing from before the period"
    yield _listed("new", "New in this period", tables.newcomers(report), none)
    yield _listed("sign-ins", "Sign-ins", tables.sign_ins(report, short=False), "none")
    yield _listed("sorts", "Sensitive changes", tables.sorts(report), "none")
    if report.changes:
        yield _listed("changes", "The latest sensitive changes", tables.changes(report, short=False), "none")


def _listed(id_: str, title: str, table: Table, none: str) -> Section:
    """Return a section with a table alone, or with a word where it is empty."""
    return Section(id_, title, (shown(table),)) if table.rows else Section(id_, title, (), note=none)


# -- charts ------------------------------------------------------------------------------------------


def _days(report: Report) -> Any:
    bars = Bars(
        [f"{one.day:%m-%d}" for one in report.days],
        {
            "failed": [one.failures for one in report.days],
            "not failed, or unknown": [one.events - one.failures for one in report.days],
        },
        ["var(--c3)", "var(--c1)"],
    )
    return drawing(charts.draw_bars(bars, "events by day, those that failed apart"))


def _hours(report: Report) -> Any:
    found = {(cell.day, cell.hour): cell.events for cell in report.heat}
    rows = [(tables.label(day), [found.get((day, hour), 0) for hour in range(24)]) for day in tables.heat_days(report)]
    return drawing(charts.draw_heat(rows, "events by day and hour"))


def _actors(report: Report) -> Any:
    top = report.actors[:_BARS]
    if not top:
        return None
    series = {
        "create": [one.creates for one in top],
        "update": [one.updates for one in top],
        "delete": [one.deletes for one in top],
        "other": [one.other for one in top],
        "unknown": [one.unknown for one in top],
    }
    there = {name: counts for name, counts in series.items() if any(counts)}
    colours = [f"var(--{_ACTIONS[name]})" for name in there]
    bars = Bars([one.actor.shown for one in top], there, colours, across=True)
    return drawing(charts.draw_bars(bars, "events of the busiest actors by action"))


def _ranked(report: Report, name: str) -> Any:
    top = [one for one in getattr(report, name) if one.events.count][:_BARS]
    if not top:
        return None
    names = [one.name or phrases.UNKNOWN for one in top]
    bars = Bars(names, {"events": [one.events.count for one in top]}, ["var(--c1)"], across=True)
    return drawing(charts.draw_bars(bars, f"events of the most frequent {name}"))


def _credentials(report: Report) -> Any:
    top = [one.actor for one in report.actors[:_BARS]]
    if not top:
        return None
    used: dict[tuple[Any, str], int] = {}
    for one in report.credentials:
        kind = one.credential.kind if one.credential.kind in CREDENTIALS else "api"
        used[one.actor, kind] = used.get((one.actor, kind), 0) + one.events
    kinds = [kind for kind in CREDENTIALS if any(used.get((actor, kind)) for actor in top)]
    series = {UsedCredential(kind).shown: [used.get((actor, kind), 0) for actor in top] for kind in kinds}
    colours = [f"var(--{_CREDENTIALS[kind]})" for kind in kinds]
    bars = Bars([actor.shown for actor in top], series, colours, across=True)
    return drawing(charts.draw_bars(bars, "events of the busiest actors by credential"))
