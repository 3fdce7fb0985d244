"""What arrived since the last time -> findings -> messages, each told once to each channel.

A channel is told first, and then it is remembered, so that a crash repeats one message and swallows none. A channel
that fails is told the rest by the next run; others go on.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from cfaudit_export.app.alert_channels import AlertChannel
from cfaudit_export.app.alert_message import AlertMessage, finding_id, message_of, message_of_backfill
from cfaudit_export.app.archive import Remembered
from cfaudit_export.core.model import EPOCH, Gap, Window, floor_ms
from cfaudit_export.errors import CfauditError, ExitCode, worst
from cfaudit_export.settings.alerts import AlertSettings
from cfaudit_export.settings.rules import SEVERITIES
from cfaudit_export.stores.alert_memory import AlertMemory, ChannelMemory, QuietKey, ToldFinding

if TYPE_CHECKING:
    from cfaudit_export.analysis.files.engine import Limits
    from cfaudit_export.analysis.files.location import Location
    from cfaudit_export.analysis.rules.model import RuleFinding, RuleSet

_LOG = logging.getLogger(__name__)
LOOK_BACK = timedelta(hours=12)
"""How far before the last run arrivals are looked at again: a batch may be stored long after it was read."""

_KEPT = timedelta(days=30)
_MILLISECOND = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class AlertRun:
    """What is judged, and by what.

    Attributes:
        place: where the data is.
        accounts: only these; all if there are none.
        settings: what is told.
        rules: what is looked for.
        channels: who is told.
        memory: what was told before.
        known: what runs remember of the data.
        limits: what a question may use of the machine.
        zone: for times in messages.
        clock: the time.
        fail_on: the least severity that ends with 1; None for none.
    """

    place: Location
    accounts: Sequence[str]
    settings: AlertSettings
    rules: RuleSet
    channels: Sequence[AlertChannel]
    memory: AlertMemory
    known: Remembered
    limits: Limits
    zone: ZoneInfo
    clock: Callable[[], datetime]
    fail_on: str | None = None


@dataclass(frozen=True, slots=True)
class AlertReport:
    """What an alert run did.

    Attributes:
        judged: the period of what was judged.
        found: findings that were new to a channel.
        delivered: messages that were delivered, by channel.
        failures: what went wrong with channels.
        gaps: gaps in the period.
        held: findings that were not told, as one of their rule and key was a little before.
        exit_code: as of the command.
    """

    judged: Window
    found: tuple[RuleFinding, ...]
    delivered: Mapping[str, int]
    failures: tuple[str, ...]
    gaps: tuple[Gap, ...]
    held: int
    exit_code: ExitCode


def run_alert(run: AlertRun) -> AlertReport:
    """Judge what arrived since the last run, and tell what is new.

    Raises:
        LockedError: another process does.
        CfauditError: the data cannot be read, or what was told cannot be remembered.
    """
    with run.memory.hold():
        memory = run.memory.load()
        now = floor_ms(run.clock())
        since = min(_since(memory, one, now, run.settings) for one in run.channels)
        back = LOOK_BACK + run.settings.quiet
        period = Window(floor_ms(since - max(run.settings.max_age, back)), now + _MILLISECOND)
        found, old, gaps = _judged(run, period, since, since - back)
        told = _Telling(run, memory, now)
        for channel in run.channels:
            told.tell(channel, found, old.get(channel.name))
        return _report(run, period, told, gaps)


def _since(
    memory: Mapping[str, ChannelMemory], channel: AlertChannel, now: datetime, settings: AlertSettings
) -> datetime:
    known = memory.get(channel.name, ChannelMemory()).since
    return known or now - settings.max_age


def _judged(
    run: AlertRun, period: Window, since: datetime, arrived_since: datetime
) -> tuple[list[RuleFinding], dict[str, AlertMessage], tuple[Gap, ...]]:
    """Return what was found, by time; of each channel what arrived too old for it; and the gaps of the period."""
    from cfaudit_export.analysis.answers.question import Question
    from cfaudit_export.analysis.files.database import open_data
    from cfaudit_export.analysis.rules.findings import find

    question = Question(period, tuple(run.accounts), {}, run.zone.key)
    with open_data(run.place, Window(EPOCH, period.before), run.accounts, limits=run.limits) as data:
        found = find(data, question, run.rules, now=run.clock(), arrived_since=arrived_since)
        [row] = data.ask(
            """SELECT count(*) AS events, min(event_time) AS first, max(event_time) AS last FROM audit_events
            WHERE event_time < $before AND ingested_at >= $since""",
            {"before": period.since, "since": since},
        )
        gaps = run.known.coverage(period, run.accounts, data.accounts).gaps
    old = {}
    if row["events"]:
        message = message_of_backfill(run.place.shown, row["events"], row["first"], row["last"], run.zone)
        old = {one.name: message for one in run.channels}
    least = SEVERITIES.index(run.settings.severity)
    told = [one for one in found.findings if SEVERITIES.index(one.severity) >= least]
    return sorted(told, key=lambda one: (one.first, one.rule)), old, gaps


class _Telling:
    """Tells channels, and remembers after each message."""

    def __init__(self, run: AlertRun, memory: dict[str, ChannelMemory], now: datetime) -> None:
        self._run = run
        self._memory = memory
        self._now = now
        self.new: dict[str, RuleFinding] = {}
        self.delivered: dict[str, int] = {}
        self.failures: list[CfauditError] = []
        self.held = 0

    def tell(self, channel: AlertChannel, found: Sequence[RuleFinding], old: AlertMessage | None) -> None:
        """Tell a channel what is new to it."""
        try:
            for one in found:
                self._tell(channel, one)
            if old and old.id not in self._of(channel).told:
                self._deliver(channel, old, ToldFinding(self._now, 0))
        except CfauditError as error:
            self.failures.append(error)
            if self._of(channel).since is None:  # or what it missed would grow too old
                since = _since(self._memory, channel, self._now, self._run.settings)
                self._keep(channel, replace(self._of(channel), since=since))
            return
        known = self._of(channel)
        kept = {id_: told for id_, told in known.told.items() if told.at > self._now - _KEPT}
        quiet = {key: one for key, one in known.quiet.items() if one.held or one.until > self._now}
        self._keep(channel, replace(known, since=self._now, told=kept, quiet=quiet))

    def _tell(self, channel: AlertChannel, found: RuleFinding) -> None:
        known, id_, key = self._of(channel), finding_id(found), f"{found.rule}\n{found.key}"
        before, quiet = known.told.get(id_), known.quiet.get(key)
        if before and before.events >= found.events:
            return
        self.new[id_] = found
        if quiet and self._now < quiet.until:
            self.held += 1
            if id_ not in quiet.held:
                held = {**known.quiet, key: replace(quiet, held=(*quiet.held, id_))}
                self._keep(channel, replace(known, quiet=held))
            return
        others = len(set(quiet.held) - {id_}) if quiet else 0
        message = message_of(found, self._run.place.shown, self._run.zone, others)
        self._deliver(channel, message, ToldFinding(self._now, found.events), key)

    def _deliver(self, channel: AlertChannel, message: AlertMessage, told: ToldFinding, key: str | None = None) -> None:
        channel.send(message)
        self.delivered[channel.name] = self.delivered.get(channel.name, 0) + 1
        known = self._of(channel)
        quiet = {**known.quiet, key: QuietKey(self._now + self._run.settings.quiet)} if key else known.quiet
        self._keep(channel, replace(known, told={**known.told, message.id: told}, quiet=quiet))

    def _of(self, channel: AlertChannel) -> ChannelMemory:
        return self._memory.get(channel.name, ChannelMemory())

    def _keep(self, channel: AlertChannel, memory: ChannelMemory) -> None:
        self._memory[channel.name] = memory
        self._run.memory.save(self._memory)


def _report(run: AlertRun, period: Window, told: _Telling, gaps: tuple[Gap, ...]) -> AlertReport:
    codes = [one.exit_code for one in told.failures]
    if gaps:
        codes.append(ExitCode.INCOMPLETE)
    if run.fail_on and any(
        SEVERITIES.index(one.severity) >= SEVERITIES.index(run.fail_on) for one in told.new.values()
    ):
        codes.append(ExitCode.CHANGED)
    return AlertReport(
        judged=period,
        found=tuple(told.new.values()),
        delivered=told.delivered,
        failures=tuple(map(str, told.failures)),
        gaps=gaps,
        held=told.held,
        exit_code=worst(codes),
    )
