"""A report or a timeline in, what a terminal shows of it out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import rich.table
from rich.console import Console, ConsoleOptions, Group, RenderResult
from rich.text import Text

from cfaudit_export.analysis.answers.facts import Report
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.timeline import ActorSession, Timeline
from cfaudit_export.analysis.render import phrases, tables
from cfaudit_export.analysis.render.layout import blocks, folded, widths
from cfaudit_export.analysis.render.tables import FAILED, NEW, Table
from cfaudit_export.core.escape import escaped
from cfaudit_export.core.plurals import counted

_TOP = 10
_LONG = 20
_STEPS = 40
_SHADES = " ░▒▓█"
_STYLES = {FAILED: "bold red", NEW: "bold yellow"}


def render_report(report: Report, first: Iterable[Any] = ()) -> Group:
    """Return the report as rich shows it; `first` comes before its sections."""
    head = [Line("Audit report", "bold"), Line(phrases.period(report.question))]
    if asked := phrases.filters(report.question):
        head.append(Line(f"only {asked}"))
    head.append(Line(f"data: {report.location}"))
    if report.proof:
        head.append(Line(f"proof: {report.proof}"))
    parts = [part for title, body in _sections(report) for part in (Text(), Line(title, "bold"), body)]
    return Group(*head, *first, *parts)


def render_timeline(timeline: Timeline) -> Group:
    """Return the timeline as rich shows it."""
    question = timeline.question
    head = [Line("Timeline", "bold"), Line(phrases.period(question)), Line(phrases.focus(timeline.focus, question))]
    if asked := phrases.filters(question):
        head.append(Line(f"only {asked}"))
    head.append(Line(f"data: {timeline.location}"))
    if timeline.proof:
        head.append(Line(f"proof: {timeline.proof}"))
    notes = render_remarks(phrases.timeline_remarks(timeline))
    parts = [part for one in timeline.sessions for part in _session(one, question)]
    if timeline.others:
        parts += [Text(), Line("Others at the same time", "bold")]
        parts += [part for one in timeline.others for part in _session(one, question)]
    return Group(*head, notes, *parts)


@dataclass(frozen=True, slots=True)
class Line:
    """A text that is safe to show, on lines as long as the console lets them be.

    Attributes:
        text: any text; it is escaped.
        style: as rich names styles.
        indent: how far what goes on from the line above is indented.
    """

    text: str
    style: str = ""
    indent: int = 2

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the lines."""
        fitting = folded(escaped(self.text), options.max_width, indent=self.indent)
        yield Text(fitting, self.style, no_wrap=True, overflow="ignore")


def render_table(table: Table) -> Group:
    """Return a table; words are broken over lines rather than cut off."""
    rest = [Line(f"  and {table.left:,} more", "dim")] if table.left else []
    return Group(_Laid(table), *rest)


@dataclass(frozen=True, slots=True)
class _Laid:
    """A table whose columns become as wide as the console lets them."""

    table: Table

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        columns, rows = self.table.columns, [tuple(map(escaped, row)) for row in self.table.rows]
        heads = [name.removeprefix(">") for name in columns]
        room = options.max_width
        fit = widths([list(column) for column in zip(heads, *rows, strict=True)], room)
        if fit is None:
            yield Text("\n".join(blocks(heads, rows, room)), no_wrap=True, overflow="ignore")
            return
        made = rich.table.Table(box=None, padding=(0, 1, 0, 0), header_style="dim", pad_edge=False)
        for name, head, width in zip(columns, heads, fit, strict=True):
            justify: Literal["left", "right"] = "right" if name.startswith(">") else "left"
            made.add_column(head, justify=justify, overflow="fold", width=width)
        for *texts, last in rows:
            made.add_row(*map(Text, texts), Text(last, _STYLES.get(last, "")))
        yield made


def render_remarks(remarks: Iterable[phrases.Remark]) -> Group:
    """Return remarks one below the other, warnings marked."""
    return Group(
        *(Line(f"! {one.text}", "bold yellow") if one.is_warning else Line(f"  {one.text}") for one in remarks)
    )


def _session(session: ActorSession, question: Question) -> Iterator[Any]:
    yield Text()
    yield Line(f"{phrases.moment(question, session.first, '%Y-%m-%d %H:%M:%S')}  {phrases.who(session)}", "bold")
    if facts := phrases.session_facts(session, question):
        yield Line(f"  {facts}")
    for step in session.steps[:_STEPS]:
        done = f"  {phrases.moment(question, step.first, '%H:%M:%S')}  {phrases.step(step)}"
        if step.result == "failure":
            yield Line(f"{done}  {FAILED}", _STYLES[FAILED], indent=12)
        else:
            yield Line(done, indent=12)
        for line in phrases.differences(step):
            yield Line(f"            {line}", "dim", indent=14)
    if len(session.steps) > _STEPS:
        yield Line(f"  and {counted(len(session.steps) - _STEPS, 'more step')}", "dim")


def _sections(report: Report) -> Iterator[tuple[str, Any]]:
    yield "Coverage", render_remarks(phrases.remarks(report))
    yield "Totals", render_table(tables.totals(report))
    yield f"Activity by day and hour ({report.question.zone})", _heat(report)
    yield "Top actors", render_table(tables.actors(report).first(_TOP))
    yield "Top products", render_table(tables.products(report).first(_TOP))
    yield "Top resource types", render_table(tables.types(report).first(_TOP))
    failed = tables.failures(report).first(_TOP)
    yield "Failures", render_table(failed) if failed.rows else Line(phrases.no_failures(report))
    yield "Credentials", render_table(tables.credentials_by_actor(report, _LONG))
    if report.new_actors or report.new_products:
        yield "New in this period", render_table(tables.newcomers(report).first(_LONG))
    if report.sign_ins:
        yield "Sign-ins", render_table(tables.sign_ins(report, short=True).first(_TOP))
    listed = render_table(tables.changes(report, short=True).first(_LONG))
    body = Group(render_table(tables.sorts(report)), Text(), listed) if report.changes else Line("none")
    yield "Sensitive changes", body


def _heat(report: Report) -> Group:
    """Return a row for each day, a cell of two characters for each hour; the darker, the more."""
    most = max((cell.events for cell in report.heat), default=0)
    found = {(cell.day, cell.hour): cell.events for cell in report.heat}
    lines = [" " * 10 + "".join(f"{hour:<6}" for hour in range(0, 24, 3)).rstrip()]
    for day in tables.heat_days(report):
        cells = (2 * _SHADES[tables.shade(found.get((day, hour), 0), most)] for hour in range(24))
        lines.append(f"{tables.label(day):<10}{''.join(cells)}".rstrip())
    return Group(*map(Text, lines), Text(f"{'':10}busiest hour: {counted(most, 'event')}", "dim"))
