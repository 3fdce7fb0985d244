"""The command `report`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from cfaudit_export.cli.command import command
from cfaudit_export.cli.exported import (
    AccountOption,
    DataOption,
    Html,
    Remembered,
    accounts,
    ask,
    limits,
    open_data_location,
    remembered,
    save,
    show,
)
from cfaudit_export.cli.periods import TIMES, Zone, since_option, until_option, window, zone_of
from cfaudit_export.cli.proof import Anchors, Keys, ended, proved
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import EPOCH, Window
from cfaudit_export.errors import ExitCode
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import FILTERS, LOGS

if TYPE_CHECKING:
    from cfaudit_export.analysis.answers.facts import Report
    from cfaudit_export.analysis.answers.question import Question
    from cfaudit_export.analysis.files.location import Location
    from cfaudit_export.analysis.rules.model import Findings

_SINCE = "7d"
_EPILOG = f"""
Reads exported files and calls no server. What the data does not tell is shown
as unknown. With the checkpoint of the export, the report says what is missing.
{TIMES}
With --html and without --json, only the name of the file is printed.

Examples:
  cfaudit-export report --data out --since 7d --time-zone Europe/Berlin
  cfaudit-export report --data out --html report.html --fail-on-gaps
  cfaudit-export report --data s3://audit/logs --context api_key --json
"""


@command(FILTERS, "state_dir", LOGS, epilog=_EPILOG)
def report(
    shell: Shell,
    settings: Settings,
    *,
    data: DataOption = None,
    account: AccountOption = None,
    since: Annotated[str, since_option(_SINCE)] = _SINCE,
    until: Annotated[str | None, until_option()] = None,
    time_zone: Zone = None,
    html: Html = None,
    json: Json = False,
    public_key: Keys = None,
    anchor: Anchors = None,
    fail_on_gaps: Annotated[
        bool, typer.Option("--fail-on-gaps", help="exit 65 unless the export of the period is known to be complete")
    ] = False,
) -> int:
    """Summarise a period: activity, actors, failures, changes.

    Also credentials, sign-ins and sensitive changes, all compared with the period before. Reads exported data.
    """
    zone = zone_of(shell, time_zone)
    place = open_data_location(settings, data)
    known, about = remembered(shell, settings, place), accounts(shell, settings, account)
    period = window(shell, since, until, known.until(about), zone=zone)
    question = ask(settings, period, about, zone.key)
    proof = proved(place, public_key or (), anchor or (), question.period, about)
    made, found = summarised(shell, settings, place, question, known)
    if proof:
        made = replace(made, proof=proof.state)
    if html:
        from cfaudit_export.analysis.render.findings import section
        from cfaudit_export.analysis.render.report_page import report_page

        save(report_page(made, [section(found, question)]), html)
        shell.terminal.say(f"wrote '{html}'")
    if json:
        from cfaudit_export.analysis.render.jsonable import tree

        shell.terminal.answer(as_json({"findings": tree(found), **tree(made)}))
    elif html:
        shell.terminal.answer(html)
    else:
        from cfaudit_export.analysis.render.findings import first_block
        from cfaudit_export.analysis.render.terminal import render_report

        show(render_report(made, first_block(found, question)))
    return ended(proof, ExitCode.INCOMPLETE if fail_on_gaps and not made.coverage.is_complete else ExitCode.OK)


def summarised(
    shell: Shell, settings: Settings, place: Location, question: Question, known: Remembered
) -> tuple[Report, Findings]:
    """Return the report of a period, and what rules found in it. Raises what `open_data` raises."""
    from cfaudit_export.analysis.answers.report import make_report
    from cfaudit_export.analysis.files.database import open_data
    from cfaudit_export.analysis.rules.findings import find
    from cfaudit_export.analysis.rules.load import load_rules

    about, rules = question.accounts, load_rules(settings.rules)
    with open_data(place, Window(EPOCH, question.period.before), about, limits=limits(settings)) as opened:
        now, then = (known.coverage(period, about, opened.accounts) for period in (question.period, question.before))
        made = make_report(opened, question, coverage=now, coverage_before=then, now=shell.clock())
        return made, find(opened, question, rules, now=shell.clock())
