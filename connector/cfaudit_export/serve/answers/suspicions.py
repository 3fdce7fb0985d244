"""`audit_findings`: what rules find, as episodes of one actor, in order."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.rules.findings import find
from cfaudit_export.analysis.rules.load import load_rules
from cfaudit_export.analysis.rules.model import Episode, Findings, RuleFinding, rank
from cfaudit_export.serve.answers.draft import AnswerDraft
from cfaudit_export.serve.answers.period import AskedPeriod, asked, head
from cfaudit_export.serve.answers.wording import told
from cfaudit_export.serve.archive import Archive

_DAY = timedelta(hours=24)
_IDS = 10


def answer_findings(archive: Archive, arguments: Mapping[str, Any]) -> AnswerDraft:
    """Answer the tool.

    Raises:
        UsageError: a time is none.
        CfauditError: the data cannot be read, or an own rule cannot be asked.
    """
    what = asked(archive, arguments, _DAY)
    question = Question(what.period, what.accounts, {}, what.zone.key)
    with archive.apart() as data:
        found = find(data, question, load_rules(archive.order.settings.rules), now=archive.now)
    shown = tuple(one for one in found.findings if _is_asked_for(one, arguments))
    episodes = [_episode(one, what) for one in Findings(shown).episodes()]
    low = [_finding(one, what) for one in shown if one.severity == "low"]
    return AnswerDraft(
        head(archive, what), _facts(found, shown, what), {"episodes": episodes, "low": low}, rows=len(shown)
    )


def _is_asked_for(one: RuleFinding, arguments: Mapping[str, Any]) -> bool:
    least, actor = arguments.get("severity", "low"), arguments.get("actor")
    return rank(one.severity) >= rank(least) and (not actor or actor.lower() in str(one.actor.name).lower())


def _facts(found: Findings, shown: tuple[RuleFinding, ...], what: AskedPeriod) -> dict[str, Any]:
    body = {
        "findings": {name: sum(one.severity == name for one in shown) for name in ("high", "medium", "low")},
        "rules": found.rules,
        "muted": found.muted or None,
        "learning": "less than 14 days of data before: what is usual is not known yet" if found.is_learning else None,
        "not_judged": [
            f"{one.events:,} events could not be judged by {len(one.rules)} rules: their records lack {one.column}"
            for one in found.unjudged
            if one.events
        ],
    }
    answer: dict[str, Any] = told(body, what.zone)
    return answer


def _episode(one: Episode, what: AskedPeriod) -> dict[str, Any]:
    return {
        **told({"actor": one.actor, "severity": one.severity, "first": one.first, "last": one.last}, what.zone),
        "findings": [_finding(each, what) for each in one.findings],
    }


def _finding(one: RuleFinding, what: AskedPeriod) -> dict[str, Any]:
    body = {
        "rule": one.rule,
        "title": one.title,
        "severity": one.severity,
        "why": one.why,
        "actor": one.actor,
        "credential": one.credential,
        "addresses": one.addresses,
        "first": one.first,
        "last": one.last if one.last != one.first else None,
        "events": one.events,
        "event_ids": one.event_ids[:_IDS],
        "more_event_ids": max(one.events - min(len(one.event_ids), _IDS), 0) or None,
        "advice": one.advice,
    }
    answer: dict[str, Any] = told(body, what.zone)
    return answer
