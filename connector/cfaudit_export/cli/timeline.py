"""The command `timeline`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Annotated

import typer

from cfaudit_export.cli.command import command
from cfaudit_export.cli.exported import (
    AccountOption,
    DataOption,
    Html,
    Zone,
    accounts,
    ask,
    limits,
    moment,
    open_data_location,
    remembered,
    save,
    show,
    since_option,
    until_option,
    window,
)
from cfaudit_export.cli.proof import Anchors, Keys, proved
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import Window, floor_ms
from cfaudit_export.errors import ExitCode, UsageError
from cfaudit_export.settings import Settings, values
from cfaudit_export.settings.options import FILTERS, LOGS

_SINCE = "24h"
_WINDOW = "2h"
_EPILOG = """
A session is what one actor did with one credential, without a pause of half an
hour. Repeated steps are shown once, with a count.

Examples:
  cfaudit-export timeline --data out --actor ada@example.com --since 3d
  cfaudit-export timeline --data out --around 2026-11-20T12:30:00+01:00
  cfaudit-export timeline --data out --resource example.com --html steps.html
"""


@command(FILTERS, "state_dir", LOGS, epilog=_EPILOG)
def timeline(
    shell: Shell,
    settings: Settings,
    *,
    data: DataOption = None,
    account: AccountOption = None,
    actor: Annotated[
        str | None, typer.Option("--actor", help="only this actor: e-mail address or id, or name or id of a token")
    ] = None,
    resource: Annotated[
        str | None,
        typer.Option("--resource", help="only this resource: its id, type or product, or name or id of its zone"),
    ] = None,
    around: Annotated[
        str | None,
        typer.Option("--around", help="the middle of the period; also shows what other actors did", metavar="TIME"),
    ] = None,
    length: Annotated[
        str | None,
        typer.Option("--window", help=f"length of the period with --around (default: {_WINDOW})", metavar="DURATION"),
    ] = None,
    since: Annotated[str | None, since_option(_SINCE)] = None,
    until: Annotated[str | None, until_option()] = None,
    time_zone: Zone = "UTC",
    html: Html = None,
    json: Json = False,
    public_key: Keys = None,
    anchor: Anchors = None,
) -> int:
    """Show who did what, step by step.

    Reads exported data.
    """
    from cfaudit_export.analysis.answers.timeline import GAP, Focus, make_timeline
    from cfaudit_export.analysis.files.database import open_data

    if around and (since or until):
        raise UsageError("give the period either by --around and --window, or by --since and --until")
    if length and not around:
        raise UsageError("--window needs --around, the middle of the period")
    middle = moment("--around", around, shell.clock()) if around else None
    place = open_data_location(settings, data)
    known, about = remembered(shell, settings, place), accounts(shell, settings, account)
    period = (
        _around(shell, middle, length or _WINDOW)
        if middle
        else window(shell, since or _SINCE, until, known.until(about))
    )
    question = ask(settings, period, about, time_zone)
    proof = proved(place, public_key or (), anchor or (), period, about)
    with open_data(place, Window(period.since - GAP, period.before + GAP), about, limits=limits(settings)) as opened:
        coverage = known.coverage(period, about, opened.accounts)
        focus = Focus(actor, resource, middle)
        made = make_timeline(opened, question, focus, coverage=coverage, now=shell.clock())
    if proof:
        made = replace(made, proof=proof.state)
    if html:
        from cfaudit_export.analysis.render.timeline_page import timeline_page

        save(timeline_page(made), html)
        shell.terminal.say(f"wrote '{html}'")
    if json:
        from cfaudit_export.analysis.render.jsonable import tree

        shell.terminal.answer(as_json(tree(made)))
    elif html:
        shell.terminal.answer(html)
    else:
        from cfaudit_export.analysis.render.terminal import render_timeline

        show(render_timeline(made))
    return ExitCode.CHANGED if proof and proof.exit_code == ExitCode.CHANGED else ExitCode.OK


def _around(shell: Shell, middle: datetime, length: str) -> Window:
    try:
        half = values.length(length, shell.clock()) / 2
        return Window(floor_ms(middle - half), floor_ms(middle + half))
    except (ValueError, OverflowError) as error:
        raise UsageError(f"--window: {error}") from None
