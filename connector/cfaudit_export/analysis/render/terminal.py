"""A report or a timeline in, what a terminal of 80 columns shows of it out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import rich.table
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.padding import Padding
from rich.text import Text

from cfaudit_export.analysis.answers.facts import Report
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.timeline import Session, Timeline
from cfaudit_export.analysis.render import phrases, tables
from cfaudit_export.analysis.render.tables import FAILED, NEW, Table
from cfaudit_export.analysis.render.widths import widths
from cfaudit_export.core.escape import escaped

_TOP = 10
_LONG = 20
_STEPS = 40
_SHADES = " ░▒▓█"
_STYLES = {FAILED: "bold red", NEW: "bold yellow"}


def render_report(report: Report) -> Group:
    """Return the report as rich shows it."""
    head = [line("Audit report", "bold"), line(phrases.period(report.question))]
    if asked := phrases.filters(report.question):
        head.append(line(f"only {asked}"))
    head.append(line(f"data: {report.location}"))
    parts = [part for title, body in _sections(report) for part in (Text(), line(title, "bold"), body)]
    return Group(*head, *parts)


def render_timeline(timeline: Timeline) -> Group:
    """Return the timeline as rich shows it."""
    question = timeline.question
    head = [line("Timeline", "bold"), line(phrases.period(question)), line(phrases.focus(timeline.focus, question))]
    if asked := phrases.filters(question):
        head.append(line(f"only {asked}"))
    notes = render_remarks(phrases.timeline_remarks(timeline))
    parts = [part for one in timeline.sessions for part in _session(one, question)]
    if timeline.others:
        parts += [Text(), line("Meanwhile, others", "bold")]
        parts += [part for one in timeline.others for part in _session(one, question)]
    return Group(*head, line(f"data: {timeline.location}"), notes, *parts)


def line(text: str, style: str = "") -> Text:
    """Return a text that is safe to show."""
    return Text(escaped(text), style)


def render_table(table: Table) -> Group:
    """Return a table; words are broken over lines rather than cut off."""
    rest = [line(f"  and {table.left:,} more", "dim")] if table.left else []
    return Group(_Laid(table), *rest)


@dataclass(frozen=True, slots=True)
class _Laid:
    """A table whose columns become as wide as the console lets them."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns, rows = self.table.columns, [tuple(map(escaped, row)) for row in self.table.rows]
        heads = [name.removeprefix(">") for name in columns]
        cells = [[head, *texts] for head, texts in zip(heads, zip(*rows, strict=True), strict=True)] if rows else []
        found: Sequence[int | None] = widths(cells, options.max_width) or [None] * len(columns)
        made = rich.table.Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
        for name, head, width in zip(columns, heads, found, strict=False):
            justify: Literal["left", "right"] = "right" if name.startswith(">") else "left"
            made.add_column(head, justify=justify, overflow="fold", width=width)
        for *texts, last in rows:
            made.add_row(*map(Text, texts), Text(last, _STYLES.get(last, "")))
        yield made


def render_remarks(remarks: Iterable[phrases.Remark]) -> Group:
    """Return remarks one below the other, warnings marked."""
    lines = rich.table.Table.grid(padding=(0, 1, 0, 0))
    for one in remarks:
        style = "bold yellow" if one.is_warning else ""
        lines.add_row(line("!" if one.is_warning else "", style), line(one.text, style))
    return Group(lines)


def _session(session: Session, question: Question) -> Iterator[Any]:
    yield Text()
    yield line(f"{phrases.moment(question, session.first, '%Y-%m-%d %H:%M:%S')}  {phrases.who(session)}", "bold")
    if facts := phrases.session_facts(session, question):
        yield Padding(line(facts), (0, 0, 0, 2))
    lines = rich.table.Table.grid(padding=(0, 2, 0, 0))
    for step in session.steps[:_STEPS]:
        time = line("  " + phrases.moment(question, step.first, "%H:%M:%S"), "dim")
        failed = FAILED if step.result == "failure" else ""
        lines.add_row(time, line(phrases.step(step)), line(failed, _STYLES[FAILED]))
    yield lines
    if len(session.steps) > _STEPS:
        yield line(f"  and {len(session.steps) - _STEPS:,} more steps", "dim")


def _sections(report: Report) -> Iterator[tuple[str, Any]]:
    yield "Coverage", render_remarks(phrases.remarks(report))
    yield "Totals", render_table(tables.totals(report))
    yield f"Activity by day and hour ({report.question.zone})", _heat(report)
    yield "Top actors", render_table(tables.actors(report).first(_TOP))
    yield "Top products", render_table(tables.products(report).first(_TOP))
    yield "Top resource types", render_table(tables.types(report).first(_TOP))
    failed = tables.failures(report).first(_TOP)
    yield "Failures", render_table(failed) if failed.rows else line(phrases.no_failures(report))
    yield "Credentials", render_table(tables.credentials_by_actor(report, _LONG))
    if report.new_actors or report.new_products:
        yield "New in this period", render_table(tables.newcomers(report).first(_LONG))
    if report.sign_ins:
        yield "Sign-ins", render_table(tables.sign_ins(report, short=True).first(_TOP))
    listed = render_table(tables.changes(report, short=True).first(_LONG))
    body = Group(render_table(tables.sorts(report)), Text(), listed) if report.changes else line("none")
    yield "Sensitive changes", body


def _heat(report: Report) -> Group:
    """Return a row for each day, a cell of two characters for each hour; the darker, the more."""
    most = max((cell.events for cell in report.heat), default=0)
    found = {(cell.day, cell.hour): cell.events for cell in report.heat}
    lines = [" " * 10 + "".join(f"{hour:<6}" for hour in range(0, 24, 3)).rstrip()]
    for day in tables.heat_days(report):
        cells = (2 * _SHADES[tables.shade(found.get((day, hour), 0), most)] for hour in range(24))
        lines.append(f"{tables.label(day):<10}{''.join(cells)}".rstrip())
    return Group(*map(Text, lines), Text(f"{'':10}busiest hour: {most:,} events", "dim"))
