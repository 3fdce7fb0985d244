"""Times in words on the command line: of every command that takes one, and what it says it understood."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cfaudit_export.cli.periods import chosen, zone_of
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.model import Window
from cfaudit_export.settings import values

Cli = Callable[..., Any]
NOW = datetime(2026, 11, 30, 9, 0, tzinfo=UTC)  # a Monday


class Said:
    """A terminal that keeps what is said."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def say(self, text: str = "") -> None:
        self.lines.append(text)


def period(
    *, around: str | None = None, since: str | None = None, until: str | None = None, zone: str | None = "Europe/Berlin"
) -> tuple[Window, list[str]]:
    terminal: Any = Said()
    shell: Any = Shell(terminal, {"TZ": "Asia/Tokyo"}, lambda: NOW, None)  # type: ignore[arg-type]  # no folder is needed
    return chosen(shell, (around, None, since, until), "24h", None, zone_of(shell, zone)), terminal.lines


def test_a_period_in_words_is_in_the_time_zone_and_told() -> None:
    found, told = period(around="yesterday lunch")
    assert found == Window(datetime(2026, 11, 29, 10, 30, tzinfo=UTC), datetime(2026, 11, 29, 13, tzinfo=UTC))
    assert told == ["--around 'yesterday lunch': Sunday 29 November 2026, 11:30 to 14:00 (Europe/Berlin)"]


def test_since_takes_the_start_of_what_is_said_and_until_its_end() -> None:
    found, told = period(since="last week", until="yesterday noon")
    assert found == Window(datetime(2026, 11, 22, 23, tzinfo=UTC), datetime(2026, 11, 29, 11, tzinfo=UTC))
    assert len(told) == 2
    assert period(since="monday", until="today")[0].duration == timedelta(days=1)


def test_without_a_time_zone_that_of_the_machine_counts() -> None:
    found, told = period(around="yesterday lunch", zone=None)
    assert found.since == datetime(2026, 11, 29, 2, 30, tzinfo=UTC)
    assert told[0].endswith("(Asia/Tokyo)")


def test_iso_8601_without_an_offset_is_in_the_time_zone_and_a_date_ends_where_it_begins() -> None:
    found, told = period(since="2026-11-20", until="2026-11-22")
    assert found == Window(datetime(2026, 11, 19, 23, tzinfo=UTC), datetime(2026, 11, 21, 23, tzinfo=UTC))
    assert told == []


def test_settings_read_words_in_the_time_zone_of_now_and_iso_8601_as_utc() -> None:
    now = NOW.astimezone(ZoneInfo("Europe/Berlin"))
    assert values.moment("yesterday", now) == datetime(2026, 11, 28, 23, tzinfo=UTC)
    assert values.end("yesterday", now) == datetime(2026, 11, 29, 23, tzinfo=UTC)
    assert values.end("2026-11-20", now) == datetime(2026, 11, 20, tzinfo=UTC)
    assert values.end("yesterday noon", now) == datetime(2026, 11, 29, 11, tzinfo=UTC)
    with pytest.raises(ValueError, match="did you mean 'yesterday'"):
        values.moment("yesterdy", now)


@pytest.mark.parametrize("command", ["report", "timeline", "sql"])
def test_commands_over_exported_data_say_what_they_understood(cli: Cli, exported: Any, command: str) -> None:
    query = ("select count(*) as n from audit_events", "--format", "json") if command == "sql" else ("--json",)
    done = cli(command, *exported.where, *query, "--since", "last week", "--time-zone", "Europe/Berlin")
    assert done.code == 0
    assert json.loads(done.out)
    assert done.line.startswith("--since 'last week': Monday ")
    assert done.line.endswith("(Europe/Berlin)")
    wrong = cli(command, *exported.where, *query, "--since", "yesterdy")
    assert (wrong.code, wrong.out) == (2, "")
    assert "--since: expected a time such as 'yesterday lunch'" in wrong.line


@pytest.mark.parametrize("command", ["events", "plan", "gaps"])
def test_commands_that_ask_the_server_say_what_they_understood(cli: Cli, target: tuple[str, ...], command: str) -> None:
    where = target[:4] if command == "events" else target
    done = cli(command, *where, "--since", "last week")
    assert "--since 'last week': Monday " in done.err
    assert "(UTC)" in done.err
    assert cli(command, *where, "--since", "lost week").code == 2
