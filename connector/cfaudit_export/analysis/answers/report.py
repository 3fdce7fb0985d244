# ruff: noqa: S608  # the SQL is made of texts of this folder alone; whatever comes from elsewhere is a bound value
"""A question and the data in, a report out."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, timedelta

from cfaudit_export.analysis.answers import queries
from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.analysis.answers.facts import Cell, Change, Day, Ranked, Report, Totals
from cfaudit_export.analysis.answers.queries import OUTCOME, ranked
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.vocabulary import CREDENTIALS, SENSITIVE
from cfaudit_export.analysis.files.database import EVENTS, EventDatabase
from cfaudit_export.analysis.files.footers import streams

_WEEKS_FROM = timedelta(days=31)
_COUNTED = ("events", "actors", "failures", "sign_ins")
_SUMS = f"""SELECT count(*) AS events, {OUTCOME}, count(*) FILTER (action = 'login') AS sign_ins,
    count(DISTINCT (actor_kind, actor_name)) FILTER (actor_kind <> 'unknown') AS actors
    FROM observed WHERE now = $now"""


def make_report(
    data: EventDatabase, question: Question, *, coverage: Coverage, coverage_before: Coverage, now: datetime
) -> Report:
    """Return the report.

    Raises:
        CfauditError: the data cannot be read.
    """
    incomparable = _incomparable(data, question, coverage_before)
    comparable = not incomparable
    queries.observe(data, question, comparable=comparable)
    has_history = data.first is not None and data.first < question.period.since
    if has_history:
        queries.recall(data, question)
    return Report(
        question=question,
        location=data.place.shown,
        made_at=now,
        ignored=data.listing.ignored,
        coverage=coverage,
        data_since=data.first,
        incomparable=incomparable,
        totals=_totals(data, question, comparable=comparable),
        days=_days(data, question),
        heat=_heat(data, question),
        actors=queries.actors(data, comparable=comparable),
        products=ranked(data, "product", comparable=comparable),
        types=ranked(data, "type", comparable=comparable),
        credentials=queries.credentials(data, has_history=has_history),
        new_actors=queries.new_actors(data) if has_history else None,
        new_products=queries.new_products(data) if has_history else None,
        sign_ins=queries.sign_ins(data),
        sensitive=_in_order(ranked(data, "sort", comparable=comparable), SENSITIVE),
        changes=queries.changes(data, question),
    )


def _incomparable(data: EventDatabase, question: Question, coverage_before: Coverage) -> str:
    """Return why the period before is no measure."""
    if coverage_before.missing:
        return "the period before was not exported in full"
    if coverage_before.is_complete is None and (data.first is None or data.first > question.before.since):
        return "the data does not reach back that far"
    return ""


def _totals(data: EventDatabase, question: Question, *, comparable: bool) -> Totals:
    [now] = data.ask(_SUMS, {"now": True})
    [then] = data.ask(_SUMS, {"now": False})
    change = {name: Change(now[name], then[name] if comparable else None) for name in _COUNTED}
    return Totals(
        **change,
        outcome=queries.outcome(now),
        actions=ranked(data, "action", comparable=comparable),
        credentials=_in_order(ranked(data, "credential_kind", comparable=comparable), CREDENTIALS),
        fidelity=ranked(data, "fidelity", comparable=False),
        repeated=_repeated(data, question),
    )


def _in_order(counts: Iterable[Ranked], names: Iterable[str]) -> tuple[Ranked, ...]:
    """Return counts in the order of the names, then those of other names; what has no name is left out."""
    order = list(names)
    named = [one for one in counts if one.name is not None]
    return tuple(sorted(named, key=lambda one: order.index(one.name) if one.name in order else len(order)))


def _repeated(data: EventDatabase, question: Question) -> int:
    """Return how many rows say again what another says; that takes two streams that export the same account."""
    if len(streams(data.listing.files)) <= len(data.accounts):
        return 0
    condition, values = question.condition()
    times = {"since": question.period.since, "before": question.period.before}
    [row] = data.ask(
        f"""SELECT count(*) - count(DISTINCT (account_id, event_key)) AS repeated FROM {EVENTS}
        WHERE event_time >= $since AND event_time < $before AND {condition}""",
        {**values, **times},
    )
    return int(row["repeated"])


def _days(data: EventDatabase, question: Question) -> tuple[Day, ...]:
    """Return every day, those without events included."""
    rows = data.ask(
        """SELECT timezone($zone, event_time)::DATE AS day, count(*) AS events,
            count(*) FILTER (result = 'failure') AS failures
        FROM observed WHERE now GROUP BY day""",
        {"zone": question.zone},
    )
    found = {row["day"]: (row["events"], row["failures"]) for row in rows}
    first = question.local(question.period.since).date()
    last = question.local(question.period.before - timedelta(milliseconds=1)).date()
    days = [first + timedelta(days=at) for at in range((last - first).days + 1)]
    return tuple(Day(day, *found.get(day, (0, 0))) for day in days)


def _heat(data: EventDatabase, question: Question) -> tuple[Cell, ...]:
    """Return the cells that are not empty."""
    local = "timezone($zone, event_time)"
    day = f"{local}::DATE" if question.period.duration <= _WEEKS_FROM else f"isodow({local}) - 1"
    rows = data.ask(
        f"""SELECT {day} AS day, hour({local}) AS hour, count(*) AS events
        FROM observed WHERE now GROUP BY ALL ORDER BY ALL""",
        {"zone": question.zone},
    )
    return tuple(Cell(row["day"], row["hour"], row["events"]) for row in rows)
