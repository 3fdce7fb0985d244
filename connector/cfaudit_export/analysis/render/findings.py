"""Findings in, what a terminal and a page show of them out: episodes in order, and what is left as a list."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rich.console import Group
from rich.text import Text

from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.render import phrases
from cfaudit_export.analysis.render.html import Section, shown
from cfaudit_export.analysis.render.phrases import Remark
from cfaudit_export.analysis.render.tables import Table
from cfaudit_export.analysis.render.terminal import Line, render_remarks, render_table
from cfaudit_export.analysis.rules.model import Episode, Findings, Judgement, RuleFinding
from cfaudit_export.analysis.rules.scan import BODY

TITLE = "What deserves a look"
_LOW = 20
_EPISODES = 20
_STYLES = {"high": "bold red", "medium": "bold yellow", "low": ""}
_FORM = "%Y-%m-%d %H:%M:%S"


def render_judgement(judgement: Judgement) -> Group:
    """Return the answer of `findings` as rich shows it."""
    question = judgement.question
    head = [Line("Findings", "bold"), Line(phrases.period(question))]
    if asked := phrases.filters(question):
        head.append(Line(f"only {asked}"))
    head.append(Line(f"data: {judgement.location}"))
    if judgement.proof:
        head.append(Line(f"proof: {judgement.proof}"))
    remarks = [*phrases.on_coverage(judgement.coverage, question), *phrases.on_ignored(judgement.ignored)]
    remarks += remarks_on(judgement.found)
    lows = _table(judgement.found.of("low"), question).first(_LOW)
    parts: list[Any] = [Text(), Line("Low", "bold"), render_table(lows)] if lows.rows else []
    return Group(*head, render_remarks(remarks), *_episodes(judgement.episodes, question), *parts)


def first_block(found: Findings, question: Question) -> Iterator[Any]:
    """Yield the block of findings with which a report begins."""
    yield Text()
    yield Line(TITLE, "bold")
    yield render_remarks(remarks_on(found))
    yield from _episodes(found.episodes(), question)


def section(found: Findings, question: Question) -> Section:
    """Return the findings as the first section of a page."""
    rows = _table([one for episode in found.episodes() for one in episode.findings], question)
    lows = _table(found.of("low"), question)
    tables = tuple(shown(one, caption) for one, caption in ((rows, ""), (lows, "Low")) if one.rows)
    return Section("findings", TITLE, tables, note=" ".join(f"{one.text}." for one in remarks_on(found)))


def remarks_on(found: Findings) -> list[Remark]:
    """Return what was asked, and how far the answer can be trusted."""
    counts = [f"{len(found.of(one))} {one}" for one in ("high", "medium", "low")]
    remarks = [Remark(f"{found.rules} rules found: {', '.join(counts)}")]
    if found.muted:
        remarks.append(Remark(f"{found.muted:,} muted by the settings"))
    if found.is_learning:
        text = "learning: with less than 14 days of data before the period, what is new or unusual cannot be told"
        remarks.append(Remark(text, is_warning=True))
    for one in found.unjudged:
        column = "what was sent" if one.column == BODY else one.column
        text = f"{one.events:,} events could not be judged by {', '.join(one.rules)}: the source did not give {column}"
        remarks.append(Remark(text, is_warning=True))
    return remarks


def _episodes(episodes: tuple[Episode, ...], question: Question) -> Iterator[Any]:
    for one in episodes[:_EPISODES]:
        yield Text()
        start = phrases.moment(question, one.first, _FORM)
        end = f" to {phrases.moment(question, one.last, '%H:%M:%S')}" if one.last > one.first else ""
        yield Line(f"{one.severity.upper()}  {start}{end}  {one.actor.shown}", _STYLES[one.severity])
        for found in one.findings:
            yield from _step(found, question)
    if len(episodes) > _EPISODES:
        yield Line(f"and {len(episodes) - _EPISODES:,} more", "dim")


def _step(found: RuleFinding, question: Question) -> Iterator[Any]:
    at = phrases.moment(question, found.first, "%H:%M:%S")
    yield Line(f"  {at}  {found.title} ({found.severity}, {found.rule})", _STYLES[found.severity], indent=12)
    origin = f", from {', '.join(found.addresses)}" if found.addresses else ""
    yield Line(f"            {found.why}; by {found.credential.shown}{origin}", indent=12)
    yield Line(f"            {found.advice}", "dim", indent=12)


def _table(found: tuple[RuleFinding, ...] | list[RuleFinding], question: Question) -> Table:
    rows = [
        (
            phrases.moment(question, one.first, _FORM),
            one.severity,
            one.actor.shown,
            one.title,
            one.why,
            f"{one.events:,}",
        )
        for one in found
    ]
    return Table(("time", "severity", "actor", "what", "why", ">events"), tuple(rows))
