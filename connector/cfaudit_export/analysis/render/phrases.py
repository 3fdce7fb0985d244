"""Values of an answer -> the words for them, the same on a terminal and in HTML."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from cfaudit_export.analysis.answers.before_after import DiffLine
from cfaudit_export.analysis.answers.coverage import Coverage
from cfaudit_export.analysis.answers.facts import Change, Outcome, Report
from cfaudit_export.analysis.answers.question import Question
from cfaudit_export.analysis.answers.timeline import ActorSession, Focus, Timeline, TimelineStep
from cfaudit_export.analysis.files.footers import Ignored
from cfaudit_export.core.model import Window
from cfaudit_export.core.plurals import are, counted
from cfaudit_export.core.times import show_duration

UNKNOWN = "unknown"
_LISTED = 3
_DIFFERENCES = 6

FIDELITY = {
    "full": "whole records",
    "recovered": "trimmed to six fields by the server, other columns rebuilt",
    "trimmed": "six fields only: what was done to what and by which credential is mostly unknown",
    "shadow": "known only to exist, the server refuses to show them",
}


@dataclass(frozen=True, slots=True)
class Remark:
    """A sentence about how far an answer can be trusted; a warning when it cannot in full."""

    text: str
    is_warning: bool = False


def remarks(report: Report) -> list[Remark]:
    """Return what must be known before the numbers of a report are believed."""
    found = [*on_coverage(report.coverage, report.question), *_on_data(report)]
    if report.incomparable:
        found.append(Remark(f"no comparison: {report.incomparable}"))
    return [*found, *on_ignored(report.ignored)]


def timeline_remarks(timeline: Timeline) -> list[Remark]:
    """Return what must be known before a timeline is believed."""
    found = list(on_coverage(timeline.coverage, timeline.question))
    if not timeline.sessions:
        found.append(Remark("there are no such events in the period"))
    return [*found, *on_ignored(timeline.ignored)]


def focus(asked: Focus, question: Question) -> str:
    """Return what a timeline is about."""
    parts = [f"{name} {value}" for name, value in (("actor", asked.actor), ("resource", asked.resource)) if value]
    if asked.around:
        parts.append(f"around {moment(question, asked.around)}")
    return ", ".join(parts) or "all actors"


def who(one: ActorSession) -> str:
    """Return whose session it is."""
    return f"{one.actor.shown} by {one.credential.shown}"


def session_facts(one: ActorSession, question: Question) -> str:
    """Return what else is known of a session, empty where it is a single event of which nothing is."""
    length = show_duration(one.last - one.first)
    bounds = [("began before the period", one.begins_before), ("goes on after the period", one.goes_on)]
    facts = [
        *([f"to {moment(question, one.last, '%H:%M:%S')} ({length})"] if one.last > one.first else []),
        *([counted(one.events, "event")] if one.events > 1 else []),
        *([f"{one.failures:,} failed"] if one.failures else []),
        *([f"from {', '.join(one.addresses[:_LISTED])}{_more(one.addresses)}"] if one.addresses else []),
        *(said for said, is_so in bounds if is_so),
    ]
    return ", ".join(facts)


def step(one: TimelineStep) -> str:
    """Return a step, as in `12 x Update DNS record: example.com`."""
    thing = "/".join(part for part in (one.product, one.type) if part) or UNKNOWN
    what = one.description or f"{one.action} {thing}"
    times = f"{one.count:,} x " if one.count > 1 else ""
    more = f" and {one.more_targets:,} more" if one.more_targets else ""
    marks = f"  [{'; '.join(one.findings)}]" if one.findings else ""
    return f"{times}{what}" + (f": {', '.join(one.targets)}{more}" if one.targets else "") + marks


def differences(one: TimelineStep) -> list[str]:
    """Return what a step changed, a line for each value, as in `~ ttl: 300 -> 60`."""
    if one.change is None or not one.change.lines:
        return []
    lines = [_line(line) for line in one.change.lines[:_DIFFERENCES]]
    left = len(one.change.lines) - len(lines) + one.change.left_out
    return [*lines, *([f"and {left:,} more"] if left else [])]


def _line(one: DiffLine) -> str:
    values = " -> ".join(value for value in (one.old, one.new) if value)
    return f"{one.sign} {one.path or 'value'}: {values}"


def on_ignored(ignored: Sequence[Ignored]) -> list[Remark]:
    """Return what is to be said about files that were skipped."""
    if not ignored:
        return []
    listed = "; ".join(f"'{one.name}': {one.why}" for one in ignored[:_LISTED])
    return [Remark(f"{counted(len(ignored), 'file')} skipped: {listed}{_more(ignored)}", is_warning=True)]


def period(question: Question) -> str:
    """Return a period in the time zone of the question."""
    window = question.period
    ends = f"{moment(question, window.since)} to {moment(question, window.before)}"
    return f"{ends} ({show_duration(window.duration)}, {question.zone})"


def moment(question: Question, at: datetime, form: str = "%Y-%m-%d %H:%M") -> str:
    """Return a moment in the time zone of the question."""
    return question.local(at).strftime(form)


def number(count: int | None) -> str:
    """Return a count with thousands apart."""
    return UNKNOWN if count is None else f"{count:,}"


def change(events: Change) -> str:
    """Return how much a count has changed."""
    if events.before is None:
        return "-"
    if events.percent is None:
        return "new" if events.count else "-"
    return f"{round(events.percent):+,} %"


def ratio(outcome: Outcome) -> str:
    """Return the share of failures."""
    return UNKNOWN if outcome.ratio is None else f"{100 * outcome.ratio:.1f} %"


def no_failures(report: Report) -> str:
    """Return what to say where no failure is known."""
    return "unknown: no event says how it ended" if report.totals.outcome.ratio is None else "none"


def newness(is_new: bool | None) -> str:  # noqa: FBT001  # a value of a fact
    """Return whether something is new, in one word."""
    return "?" if is_new is None else "new" if is_new else ""


def filters(question: Question) -> str:
    """Return the accounts and filters of a question, empty if there are none."""
    accounts = [f"account={account}" for account in question.accounts]
    return ", ".join([*accounts, *(f"{name}={value}" for name, value in sorted(question.filters.items()))])


def on_coverage(coverage: Coverage, question: Question) -> Iterator[Remark]:
    """Yield what is to be said about how much of the period was exported."""
    for account in coverage.unknown[:_LISTED]:
        yield Remark(f"coverage of account {account} is unknown: {coverage.reason}", is_warning=True)
    if not coverage.unknown and not coverage.streams:
        yield Remark("coverage is unknown: there is no account to speak of", is_warning=True)
    if coverage.missing:
        listed = "; ".join(_window(window, question) for window in coverage.missing[:_LISTED])
        yield Remark(f"incomplete: never exported are {listed}{_more(coverage.missing)}", is_warning=True)
    if coverage.gaps:
        rows = [gap.rows for gap in coverage.gaps]
        known = "an unknown number of" if not all(rows) else f"{sum(rows):,}"
        yield Remark(
            f"incomplete: {counted(len(coverage.gaps), 'gap')} with {known} events that could not be read, "
            f"such as {_window(coverage.gaps[0].window, question, exact=True)}: {coverage.gaps[0].reason}",
            is_warning=True,
        )
    if coverage.is_complete:
        sinks = ", ".join(sorted({one.sink for one in coverage.streams}))
        yield Remark(f"complete: by the checkpoint, the whole period was exported (sink {sinks})")


def _on_data(report: Report) -> Iterator[Remark]:
    totals = report.totals
    if not totals.events.count:
        yield Remark("there are no events in the period", is_warning=report.coverage.is_complete is not True)
    for one in totals.fidelity:
        meaning = FIDELITY.get(one.name or UNKNOWN, "")
        yield Remark(
            f"{counted(one.events.count, 'event')} {are(one.events.count)} {one.name}: {meaning}",
            is_warning=one.name == "shadow",
        )
    if totals.repeated:
        yield Remark(
            f"{totals.repeated:,} events are counted more than once: several streams export the same account here",
            is_warning=True,
        )
    if report.new_actors is None:
        yield Remark("what is new is unknown: the data has nothing from before the period")
    elif report.data_since:
        since = moment(report.question, report.data_since)
        yield Remark(f"new means: not in the data before the period, which goes back to {since}")


def _window(window: Window, question: Question, *, exact: bool = False) -> str:
    form = "%Y-%m-%d %H:%M:%S.%f" if exact else "%Y-%m-%d %H:%M"
    since, before = (moment(question, end, form) for end in (window.since, window.before))
    if exact:
        return since[:-3]
    return f"{since} to {before} ({show_duration(window.duration)})"


def _more(listed: Sequence[object] | Iterable[object]) -> str:
    left = len(list(listed)) - _LISTED
    return f" and {left:,} more" if left > 0 else ""
