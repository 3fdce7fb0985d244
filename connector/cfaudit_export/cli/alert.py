"""The command `alert`, and what `run --alert` shares with it."""

from __future__ import annotations

from typing import Annotated
from zoneinfo import ZoneInfo

import typer

from cfaudit_export import api
from cfaudit_export.app.alert import AlertReport
from cfaudit_export.app.alert_message import AlertMessage
from cfaudit_export.cli.command import command
from cfaudit_export.cli.exported import AccountOption, DataOption, accounts
from cfaudit_export.cli.periods import Zone, zone_of
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.errors import UsageError
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import LOGS
from cfaudit_export.settings.rules import SEVERITIES

_EPILOG = """
Judges what arrived since the last alert run, late events too, by the rules of
'findings', and tells each finding once to each channel of [alert] in the
settings; without a channel, it is printed. What was told is remembered beside
the checkpoints.

Ends with 69 when a channel fails (the next run tells it), 65 when gaps lie in
the period, and 1 with --fail-on when something new is that severe.

Examples:
  cfaudit-export alert --data out
  cfaudit-export alert --data out --fail-on high --json
  cfaudit-export run --sink parquet --alert
"""

FailOn = Annotated[
    str | None,
    typer.Option(
        "--fail-on", help="exit 1 when something new is of this severity or worse", metavar="|".join(SEVERITIES)
    ),
]


@command("state_dir", LOGS, epilog=_EPILOG)
def alert(
    shell: Shell,
    settings: Settings,
    *,
    data: DataOption = None,
    account: AccountOption = None,
    fail_on: FailOn = None,
    time_zone: Zone = None,
    json: Json = False,
) -> int:
    """Tell what deserves a look, once, by webhook, Slack or e-mail.

    Reads exported data.
    """
    if fail_on and fail_on not in SEVERITIES:
        raise UsageError(f"--fail-on: expected one of {', '.join(SEVERITIES)}, not '{fail_on}'")
    about = accounts(shell, settings, account)
    zone = zone_of(shell, time_zone)
    report = alerted(shell, settings, zone, data=data, about=about, fail_on=fail_on, quiet=json)
    if json:
        from cfaudit_export.analysis.render.jsonable import tree

        shell.terminal.answer(as_json(tree(report)))
    return report.exit_code


def alerted(
    shell: Shell,
    settings: Settings,
    zone: ZoneInfo,
    *,
    data: str | None = None,
    about: tuple[str, ...] = (),
    fail_on: str | None = None,
    quiet: bool = False,
) -> AlertReport:
    """Judge what arrived, tell it, and say what was done.

    Raises:
        CfauditError: the data cannot be read, or the settings do not fit.
    """

    def give(message: AlertMessage) -> None:
        if not quiet:
            shell.terminal.answer(f"{message.text}\n")

    report = api.alert(
        settings,
        environ=shell.environ,
        clock=shell.clock,
        hide=shell.terminal.redaction.hide,
        data=data,
        accounts=about,
        fail_on=fail_on,
        zone=zone,
        give=give,
    )
    for failure in report.failures:
        shell.terminal.fail(failure)
    if report.gaps:
        shell.terminal.fail(f"{len(report.gaps)} gaps in the period: what could not be read was not judged")
    sent = ", ".join(f"{count} to {name}" for name, count in report.delivered.items() if name != "answer")
    if sent:
        shell.terminal.say(f"messages delivered: {sent}")
    if not report.found and not quiet:
        shell.terminal.say("nothing new deserves a look")
    return report
