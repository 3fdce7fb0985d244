"""The period that a question is about: `--since`, `--until`, `--around`, in a time zone; and what was understood."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import typer

from cfaudit_export.cli.shell import Shell
from cfaudit_export.core import spoken
from cfaudit_export.core.model import Window, floor_ms
from cfaudit_export.core.spoken import Understood
from cfaudit_export.errors import UsageError
from cfaudit_export.settings import values

WHICH = "Which events"
_STALE = timedelta(days=1)

Zone = Annotated[
    str | None,
    typer.Option(
        "--time-zone",
        help="time zone of times and days, such as Europe/Berlin (default: that of this machine)",
        metavar="ZONE",
    ),
]
Around = Annotated[
    str | None,
    typer.Option(
        "--around",
        help="the period, as in 'yesterday lunch', or its middle",
        metavar="TIME",
        rich_help_panel=WHICH,
    ),
]
Length = Annotated[
    str | None,
    typer.Option(
        "--window",
        help="length of the period around the middle (default: 2h, or the period that --around names)",
        metavar="DURATION",
        rich_help_panel=WHICH,
    ),
]
TIMES = """
A TIME is ISO 8601, an age such as 7d, or words: 'yesterday', 'monday 14:00',
'last week', 'yesterday lunch'; morning 06-12, lunch 11:30-14, noon, afternoon
12-18, evening 18-22, night 22-06. Of a period, --since takes the start and
--until the end. What was understood is printed.
"""


def since_option(default: str) -> Any:
    """Return the option `--since`."""
    return typer.Option(
        "--since", help=f"start of the period (default: {default})", metavar="TIME", rich_help_panel=WHICH
    )


def until_option(default: str = "end of the export if it is less than a day old, else now") -> Any:
    """Return the option `--until`."""
    return typer.Option(
        "--until", help=f"end of the period, exclusive (default: {default})", metavar="TIME", rich_help_panel=WHICH
    )


def zone_of(shell: Shell, name: str | None) -> ZoneInfo:
    """Return the time zone that an option names, by default that of the machine.

    Raises:
        UsageError: none is so named.
    """
    try:
        return ZoneInfo(name or spoken.local_zone(shell.environ))
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise UsageError(f"unknown time zone '{name}'; use a name such as 'Europe/Berlin'") from None


def window(shell: Shell, since: str, until: str | None, exported: datetime | None = None, *, zone: ZoneInfo) -> Window:
    """Return the period that `--since` and `--until` give.

    Without `--until` it ends where the export does, and is as long as asked for, so that what is not there yet is not
    held against it. Where the export ended a day ago or more, or that is unknown, it ends now.

    Raises:
        UsageError: it is none.
    """
    now = floor_ms(shell.clock())
    is_fresh = exported is not None and now - _STALE < exported <= now
    end = _moment(shell, "--until", until, now, zone) if until else exported if exported and is_fresh else now
    start = _moment(shell, "--since", since, now if until else end, zone)
    if start >= end and not until:
        end = now
    if start >= end:
        raise UsageError(f"--since must be earlier than --until, but '{since}' is not earlier than '{until or 'now'}'")
    return Window(start, end)


def around(shell: Shell, text: str, length: str | None, *, zone: ZoneInfo) -> Window:
    """Return the period that `--around` and `--window` give.

    Raises:
        UsageError: it is none.
    """
    try:
        half = values.length(length, shell.clock()) / 2 if length else None
    except ValueError as error:
        raise UsageError(f"--window: {error}") from None
    try:
        found, told = spoken.around(text, shell.clock(), zone, half)
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--{'window' if half == timedelta() else 'around'}: {error}") from None
    _tell(shell, "--around", text, told)
    return found


def chosen(
    shell: Shell,
    times: tuple[str | None, str | None, str | None, str | None],
    default: str,
    exported: datetime | None,
    zone: ZoneInfo,
) -> Window:
    """Return the period that either `--around` and `--window`, or `--since` and `--until` give, in this order.

    Raises:
        UsageError: both are given, or they give none.
    """
    middle, length, since, until = times
    if middle and (since or until):
        raise UsageError("give the period either by --around and --window, or by --since and --until")
    if length and not middle:
        raise UsageError("--window needs --around, the middle of the period")
    if middle:
        return around(shell, middle, length, zone=zone)
    return window(shell, since or default, until, exported, zone=zone)


def _moment(shell: Shell, option: str, text: str, now: datetime, zone: ZoneInfo) -> datetime:
    """Return the moment that an option gives: where it ends for `--until`, and else where it begins."""
    try:
        found = spoken.understand(text, now, zone)
        _tell(shell, option, text, found)
        ends = option == "--until" and found.is_spoken
        return floor_ms(max((ends and found.before) or found.since, values.OLDEST))
    except ValueError as error:
        raise UsageError(f"{option}: {error}") from None


def _tell(shell: Shell, option: str, text: str, found: Understood) -> None:
    if found.is_spoken:
        shell.terminal.say(f"{option} '{text}': {found.words}")
