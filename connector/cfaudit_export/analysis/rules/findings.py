# ruff: noqa: S608  # the SQL is made of texts of this folder alone; whatever comes from elsewhere is a bound value
"""Exported events and rules in, findings out, the worst first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from cfaudit_export.analysis.answers.queries import HOW, WHO, actor, credential
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.files.database import EVENTS, EventDatabase
from cfaudit_export.analysis.rules import context, hits, own
from cfaudit_export.analysis.rules.model import Findings, Rule, RuleFinding, RuleSet, Unjudged, rank
from cfaudit_export.analysis.rules.scan import BODY, RuleQuestion, history_start, scan
from cfaudit_export.settings.rules import SEVERITIES, Mute

__all__ = ["find", "history_start"]

_LEARNING = timedelta(days=14)
_IDS = 100
_ADDRESSES = 5
_PAUSE = "INTERVAL 12 HOURS"


def find(
    data: EventDatabase,
    question: Question,
    rules: RuleSet,
    *,
    now: datetime | None = None,
    arrived_since: datetime | None = None,
) -> Findings:
    """Return what rules find in a period.

    Args:
        data: the events, opened from `history_start(question.period.since)` on.
        question: the period, and which events of it.
        rules: the rules.
        now: when mutes are looked at; by default the end of the period.
        arrived_since: only findings with an event that was read since then.

    Raises:
        SettingsError: an own rule cannot be asked.
        CfauditError: the data cannot be read.
    """
    asked = RuleQuestion(question, arrived_since, rules.rules, rules.known_tokens, hits.lacking(rules.rules))
    first = data.first
    is_learning = first is None or first > question.period.since - _LEARNING
    scan(data, asked)
    context.remember(data, rules.known_addresses)
    of_bodies = hits.find_hits(data, asked, is_learning=is_learning)
    own.find_own(data, asked)
    context.judge(data, asked, rules.fixed, is_learning=is_learning)
    found = [_finding(rules.rules[row["rule"]], row) for row in _grouped(data, asked)]
    shown = [one for one in found if not _is_muted(one, rules.mute, now or question.period.before)]
    return Findings(
        findings=tuple(sorted(shown, key=lambda one: (-rank(one.severity), one.first, one.rule, one.key))),
        unjudged=_unjudged(data, asked, of_bodies),
        muted=len(found) - len(shown),
        is_learning=is_learning,
        rules=len(rules.rules),
    )


def _is_muted(finding: RuleFinding, mutes: Sequence[Mute], now: datetime) -> bool:
    return any(
        one.rule == finding.rule and one.key in (None, finding.key) and (one.until is None or now < one.until)
        for one in mutes
    )


def _grouped(data: EventDatabase, asked: RuleQuestion) -> list[dict[str, Any]]:
    """Return a row for each finding: hits of one rule, key and severity, apart where there is a pause of half a day."""
    [span] = data.ask("SELECT min(moment) AS first, max(moment) AS last FROM judged")
    if span["first"] is None:
        return []
    data.run(
        f"""CREATE OR REPLACE TEMP TABLE facts AS SELECT DISTINCT ON (event_id) event_id, {WHO}, {HOW},
            nullif(actor_ip_address, '') AS address, nullif(action_description, '') AS description,
            coalesce(nullif(zone_name, ''), nullif(resource_id, '')) AS target
        FROM {EVENTS} WHERE event_time >= $first AND event_time <= $last
            AND event_id IN (SELECT event_id FROM judged)""",
        span,
    )
    targets = [at for at, one in enumerate(asked.rules) if one.key == "target"]
    reasons = ", ".join(f"count(*) FILTER ({one}) AS {one}" for one in context.REASONS)
    return data.ask(
        f"""WITH named AS (SELECT judged.* EXCLUDE (key), facts.* EXCLUDE (event_id), coalesce(key,
                CASE WHEN list_contains({targets}::INT[], rule) THEN target END, actor_name, 'unknown') AS key
            FROM judged JOIN facts USING (event_id)),
        stepped AS (SELECT *, severity > 0 AND moment > lag(moment) OVER alike + {_PAUSE} AS is_start FROM named
            WINDOW alike AS (PARTITION BY rule, key, severity ORDER BY moment)),
        runs AS (SELECT *, count(*) FILTER (is_start) OVER alike AS run FROM stepped
            WINDOW alike AS (PARTITION BY rule, key, severity ORDER BY moment))
        SELECT rule, key, severity, run, min(moment) AS first, max(moment) AS last, count(*) AS events,
            list(event_id ORDER BY moment, event_id)[1:{_IDS}] AS event_ids,
            arg_min(actor_kind, moment) AS actor_kind, arg_min(actor_name, moment) AS actor_name,
            arg_min(credential_kind, moment) AS credential_kind, arg_min(credential_name, moment) AS credential_name,
            list(DISTINCT address) AS addresses, list(DISTINCT target)[1:3] AS targets,
            arg_min(description, moment) AS description, max(n) AS n, max(most) AS most, max(why) AS why,
            {reasons}
        FROM runs GROUP BY ALL HAVING bool_or(now)"""
    )


def _finding(rule: Rule, row: Mapping[str, Any]) -> RuleFinding:
    return RuleFinding(
        rule=rule.id,
        title=rule.title,
        severity=SEVERITIES[row["severity"]],
        key=row["key"],
        actor=actor(row),
        credential=credential(row),
        addresses=tuple(sorted(one for one in row["addresses"] if one)[:_ADDRESSES]),
        first=row["first"],
        last=row["last"],
        events=row["events"],
        event_ids=tuple(row["event_ids"]),
        why=_why(rule, row),
        advice=rule.advice,
    )


def _why(rule: Rule, row: Mapping[str, Any]) -> str:
    """Return what was seen, and what speaks for a look."""
    if rule.kind == "own":
        return str(row["why"] or rule.title)
    targets = [one for one in row["targets"] if one]
    what = row["description"] or rule.title
    on = f" on {', '.join(targets)}" if targets else ""
    if rule.kind == "burst":
        worked = ", then one that worked" if row["why"] else ""
        usual = f"; at most {row['most']} before" if row["most"] else ""
        return f"{row['n']} times '{what}' within {rule.minutes} minutes{worked}{on}{usual}"
    times = f", {row['events']:,} times" if row["events"] > 1 else ""
    return "; ".join([f"'{what}'{on}{times}", *context.told(row)])


def _unjudged(data: EventDatabase, asked: RuleQuestion, of_bodies: Sequence[str]) -> tuple[Unjudged, ...]:
    counts = ", ".join(f"count(*) FILTER (now AND lacks & {1 << at} <> 0) AS c{at}" for at in range(len(asked.columns)))
    if not counts:
        return ()
    [row] = data.ask(f"SELECT {counts} FROM seen")
    [blind] = data.ask("SELECT count(DISTINCT event_id) AS events FROM unsure WHERE is_blind")
    found = []
    for at, column in enumerate(asked.columns):
        if column == BODY:
            found.append(Unjudged(column, blind["events"], tuple(of_bodies)))
        else:
            found.append(Unjudged(column, row[f"c{at}"], tuple(one.id for one in asked.rules if column in one.needs)))
    return tuple(one for one in found if one.events)
