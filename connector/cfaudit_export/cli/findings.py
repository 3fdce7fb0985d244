"""The command `findings`, and what other commands show of findings."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated

import typer

from cfaudit_export.cli.command import command
from cfaudit_export.cli.exported import (
    AccountOption,
    DataOption,
    accounts,
    ask,
    limits,
    open_data_location,
    remembered,
    show,
)
from cfaudit_export.cli.periods import TIMES, Around, Length, Zone, chosen, since_option, until_option, zone_of
from cfaudit_export.cli.proof import Anchors, Keys, ended, proved
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import Window
from cfaudit_export.errors import ExitCode
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import FILTERS, LOGS

if TYPE_CHECKING:
    from cfaudit_export.analysis.rules.model import Findings

_SINCE = "7d"
_EPILOG = f"""
Rules look at each change, and at what its actor did in the 90 days before: what
is done every week is low, and what is done from a new network, by a new
credential or after failed sign-ins is not. Findings of one actor are shown as
an episode, in order. [rules] in the settings has own rules, mutes, and what is
known.
{TIMES}
Examples:
  cfaudit-export findings --data out --around 'yesterday lunch'
  cfaudit-export findings --data out --since 'last week' --json
"""


@command(FILTERS, "state_dir", LOGS, epilog=_EPILOG)
def findings(
    shell: Shell,
    settings: Settings,
    *,
    data: DataOption = None,
    account: AccountOption = None,
    around: Around = None,
    length: Length = None,
    since: Annotated[str | None, since_option(_SINCE)] = None,
    until: Annotated[str | None, until_option()] = None,
    time_zone: Zone = None,
    json: Json = False,
    public_key: Keys = None,
    anchor: Anchors = None,
    fail_on_gaps: Annotated[
        bool, typer.Option("--fail-on-gaps", help="exit 65 unless the export of the period is known to be complete")
    ] = False,
) -> int:
    """Show what deserves a look: suspicious changes, with reasons.

    Reads exported data.
    """
    from cfaudit_export.analysis.files.database import open_data
    from cfaudit_export.analysis.rules.findings import find, history_start
    from cfaudit_export.analysis.rules.load import load_rules
    from cfaudit_export.analysis.rules.model import Judgement

    zone = zone_of(shell, time_zone)
    rules = load_rules(settings.rules)
    place = open_data_location(settings, data)
    known, about = remembered(shell, settings, place), accounts(shell, settings, account)
    period = chosen(shell, (around, length, since, until), _SINCE, known.until(about), zone)
    question = ask(settings, period, about, zone.key)
    proof = proved(place, public_key or (), anchor or (), period, about)
    history = Window(history_start(period.since), period.before)
    with open_data(place, history, about, limits=limits(settings)) as opened:
        found = find(opened, question, rules, now=shell.clock())
        made = Judgement(
            question=question,
            location=place.shown,
            made_at=shell.clock(),
            ignored=opened.listing.ignored,
            coverage=known.coverage(period, about, opened.accounts),
            found=found,
            episodes=found.episodes(),
        )
    if proof:
        made = replace(made, proof=proof.state)
    if json:
        from cfaudit_export.analysis.render.jsonable import tree

        shell.terminal.answer(as_json(tree(made)))
    else:
        from cfaudit_export.analysis.render.findings import render_judgement

        show(render_judgement(made))
    return ended(proof, ExitCode.INCOMPLETE if fail_on_gaps and not made.coverage.is_complete else ExitCode.OK)


def marks(found: Findings) -> Mapping[str, tuple[str, ...]]:
    """Return what a timeline says beside events of medium and high severity, by their ids."""
    said: dict[str, tuple[str, ...]] = defaultdict(tuple)
    for one in found.of("high", "medium"):
        for event_id in one.event_ids:
            said[event_id] += (f"{one.severity}: {one.title}",)
    return said
