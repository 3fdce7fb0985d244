"""The command `timeline`."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated

import typer

from cfaudit_export.cli.command import command
from cfaudit_export.cli.exported import (
    AccountOption,
    DataOption,
    Html,
    accounts,
    ask,
    limits,
    open_data_location,
    remembered,
    save,
    show,
)
from cfaudit_export.cli.periods import TIMES, Around, Length, Zone, chosen, since_option, until_option, zone_of
from cfaudit_export.cli.proof import Anchors, Keys, ended, proved
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import Window
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import FILTERS, LOGS

_SINCE = "24h"
_EPILOG = f"""
A session is what one actor did with one credential, without a pause of half an
hour. Repeated steps are shown once, with a count.
{TIMES}
Examples:
  cfaudit-export timeline --data out --actor ada@example.com --since 3d
  cfaudit-export timeline --data out --around 'yesterday lunch'
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
    around: Around = None,
    length: Length = None,
    since: Annotated[str | None, since_option(_SINCE)] = None,
    until: Annotated[str | None, until_option()] = None,
    time_zone: Zone = None,
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
    from cfaudit_export.analysis.rules.findings import find, history_start
    from cfaudit_export.analysis.rules.load import load_rules
    from cfaudit_export.cli.findings import marks

    rules = load_rules(settings.rules)
    zone = zone_of(shell, time_zone)
    place = open_data_location(settings, data)
    known, about = remembered(shell, settings, place), accounts(shell, settings, account)
    period = chosen(shell, (around, length, since, until), _SINCE, known.until(about), zone)
    question = ask(settings, period, about, zone.key)
    proof = proved(place, public_key or (), anchor or (), period, about)
    history = Window(history_start(period.since), period.before + GAP)
    with open_data(place, history, about, limits=limits(settings)) as opened:
        coverage = known.coverage(period, about, opened.accounts)
        focus = Focus(actor, resource, period.since + period.duration / 2 if around else None)
        marked = marks(find(opened, question, rules, now=shell.clock()))
        made = make_timeline(opened, question, focus, coverage=coverage, now=shell.clock(), findings=marked)
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
    return ended(proof)
