"""`audit_timeline` and `audit_report`: what the commands of the same names answer, in few bytes."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from cfaudit_export.analysis.answers.facts import Report
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.report import make_report
from cfaudit_export.analysis.answers.timeline import ActorSession, Focus, make_timeline
from cfaudit_export.serve.answers.changes import change_lines, changes_span
from cfaudit_export.serve.answers.draft import AnswerDraft, compact
from cfaudit_export.serve.answers.period import AskedPeriod, asked, head
from cfaudit_export.serve.answers.wording import told
from cfaudit_export.serve.archive import Archive
from cfaudit_export.serve.tools import DEFAULT_BYTES

_DAY, _WEEK = timedelta(hours=24), timedelta(days=7)
_STEPS = (40, 12, 4)
_BACK = timedelta(days=14)  # for what a step changed; `audit_event` looks further


def answer_timeline(archive: Archive, arguments: Mapping[str, Any]) -> AnswerDraft:
    """Answer the tool.

    Raises:
        UsageError: a time is none, or there are too many events.
        CfauditError: the data cannot be read.
    """
    what = asked(archive, arguments, _DAY)
    focus = Focus(arguments.get("actor"), arguments.get("resource"))
    coverage = archive.coverage(what.period, what.accounts)
    with archive.apart(changes_span(what.period, _BACK)) as data:
        made = make_timeline(data, _question(what), focus, coverage=coverage, now=archive.now)
    events = sum(one.events for one in made.sessions)
    most_bytes = arguments.get("max_bytes", DEFAULT_BYTES)
    top, facts = head(archive, what), {"events": events, "sessions_in_all": len(made.sessions)}
    for steps in _STEPS:
        sessions = [_session(one, what, steps) for one in made.sessions]
        if len(compact(sessions).encode()) < most_bytes // 2:
            break
    return AnswerDraft(top, facts, {"sessions": sessions}, rows=events)


def _session(one: ActorSession, what: AskedPeriod, most_steps: int) -> dict[str, Any]:
    steps = [
        {
            "event_id": step.event_id,
            "first": step.first,
            "last": step.last if step.last != step.first else None,
            "count": step.count if step.count > 1 else None,
            "action": step.action,
            "result": step.result if step.result != "success" else None,
            "description": step.description,
            "product": step.product,
            "type": step.type,
            "targets": step.targets or None,
            "more_targets": step.more_targets or None,
            "changed": change_lines(step.change) or None,
        }
        for step in one.steps[:most_steps]
    ]
    body = {
        "actor": one.actor,
        "credential": one.credential,
        "first": one.first,
        "last": one.last,
        "events": one.events,
        "failures": one.failures or None,
        "addresses": one.addresses[:5],
        "more_addresses": max(len(one.addresses) - 5, 0) or None,
        "begins_before": one.begins_before or None,
        "goes_on": one.goes_on or None,
        "steps": steps,
        "steps_left_out": max(len(one.steps) - most_steps, 0) or None,
    }
    answer: dict[str, Any] = told(body, what.zone)
    return answer


def answer_report(archive: Archive, arguments: Mapping[str, Any]) -> AnswerDraft:
    """Answer the tool.

    Raises:
        UsageError: a time is none.
        CfauditError: the data cannot be read.
    """
    what = asked(archive, arguments, _WEEK)
    question = _question(what)
    now, then = (archive.coverage(period, what.accounts) for period in (question.period, question.before))
    with archive.apart() as data:
        made = make_report(data, question, coverage=now, coverage_before=then, now=archive.now)
    return AnswerDraft(
        head(archive, what), _facts(made, what), _lists(made, what), _totals(made), made.totals.events.count
    )


def _facts(made: Report, what: AskedPeriod) -> dict[str, Any]:
    totals = made.totals
    body = {
        "totals": {
            "events": totals.events,
            "actors": totals.actors,
            "failures": totals.failures,
            "sign_ins": totals.sign_ins,
            "outcome": totals.outcome,
            "actions": {one.name: one.events for one in totals.actions[:_MOST]},
            "credentials": {one.name: one.events for one in totals.credentials[:_MOST]},
            "fidelity": {one.name: one.events.count for one in totals.fidelity},
            "repeated_rows": totals.repeated or None,
        },
        "sensitive_changes": {one.name: one.events for one in made.sensitive},
        "compared_with": made.question.before if not made.incomparable else None,
        "not_compared_because": made.incomparable or None,
        "data_since": made.data_since,
    }
    answer: dict[str, Any] = told(body, what.zone)
    return answer


_MOST = 10


def _entries(made: Report) -> dict[str, Any]:
    return {
        "changes": made.changes,
        "actors": made.actors,
        "credentials": made.credentials,
        "new_actors": made.new_actors or (),
        "new_products": made.new_products or (),
        "sign_ins": made.sign_ins,
        "products": made.products,
        "types": made.types,
        "days": made.days,
    }


def _lists(made: Report, what: AskedPeriod) -> dict[str, Any]:
    """Return the lists of a report, ten entries of each; days as many as a month has."""
    most = {"days": 31}
    return {name: told(entries[: most.get(name, _MOST)], what.zone) for name, entries in _entries(made).items()}


def _totals(made: Report) -> dict[str, int]:
    """Return how many entries the lists really have; of sensitive changes more are counted than listed."""
    found = {name: len(entries) for name, entries in _entries(made).items()}
    return found | {"changes": sum(one.events.count for one in made.sensitive)}


def _question(what: AskedPeriod) -> Question:
    return Question(what.period, what.accounts, {}, what.zone.key)
