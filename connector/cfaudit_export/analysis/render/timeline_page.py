"""A timeline in, its HTML page out."""

from __future__ import annotations

from typing import Any

from cfaudit_export.analysis.answers.timeline import ActorSession, Timeline
from cfaudit_export.analysis.render import charts, phrases
from cfaudit_export.analysis.render.html import drawing, render_page, shown
from cfaudit_export.analysis.render.tables import FAILED, Table

_MOST_SESSIONS = 200
_MOST_STEPS = 500
_FORM = "%Y-%m-%d %H:%M:%S"


def timeline_page(timeline: Timeline) -> str:
    """Return the timeline as HTML.

    Raises:
        SettingsError: what draws it is not installed.
    """
    question = timeline.question
    asked = phrases.filters(question)
    head = [phrases.period(question), f"About {phrases.focus(timeline.focus, question)}", f"Data: {timeline.location}"]
    return render_page(
        "timeline.html",
        title="Audit timeline",
        head=[*head, *([f"Only {asked}"] if asked else []), *([f"Proof: {timeline.proof}"] if timeline.proof else [])],
        made_at=phrases.moment(question, timeline.made_at),
        remarks=phrases.timeline_remarks(timeline),
        chart=_chart(timeline),
        behind=shown(_table(timeline)),
        groups=[
            (title, [_described(one, timeline) for one in sessions[:_MOST_SESSIONS]], len(sessions) - _MOST_SESSIONS)
            for title, sessions in (("Sessions", timeline.sessions), ("Others at the same time", timeline.others))
            if sessions
        ],
    )


def _described(session: ActorSession, timeline: Timeline) -> dict[str, Any]:
    steps = [
        (
            phrases.moment(timeline.question, step.first, "%H:%M:%S"),
            phrases.step(step),
            FAILED if step.result == "failure" else "",
            phrases.differences(step),
        )
        for step in session.steps[:_MOST_STEPS]
    ]
    head = f"{phrases.moment(timeline.question, session.first, _FORM)} {phrases.who(session)}"
    facts = phrases.session_facts(session, timeline.question)
    return {"head": head, "facts": facts, "steps": steps, "left": max(len(session.steps) - _MOST_STEPS, 0)}


def _table(timeline: Timeline) -> Table:
    """Return what the chart shows."""
    rows = [
        (
            *(phrases.moment(timeline.question, end, _FORM) for end in (one.first, one.last)),
            one.actor.shown,
            one.credential.shown,
            f"{one.events:,}",
            f"{one.failures:,}",
        )
        for one in (*timeline.sessions, *timeline.others)
    ]
    return Table(("first", "last", "actor", "by", ">events", ">failed"), tuple(rows)).first(_MOST_SESSIONS)


def _chart(timeline: Timeline) -> Any:
    sessions = [*timeline.sessions, *timeline.others][:_MOST_SESSIONS]
    if not sessions:
        return None
    spans = [
        charts.Span(
            phrases.who(one),
            timeline.question.local(one.first),
            timeline.question.local(one.last),
            failed=bool(one.failures),
        )
        for one in sessions
    ]
    return drawing(charts.draw_spans(spans, "when each actor was at work"))
