"""The command `erase`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cfaudit_export.cli.changing import changing
from cfaudit_export.cli.command import command
from cfaudit_export.cli.exported import AccountOption, DataOption
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.errors import ExitCode
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import LOGS

if TYPE_CHECKING:
    from cfaudit_export.analysis.removal.erase import ErasedFile, UnerasedFile

_EPILOG = """
Rewrites the files with events that name a person: their bodies are erased, each
text that has the identity, and of what the person did also address, token, user
agent and ray id. The events stay, with time, action and resource. A manifest
names the events and what was erased of them, and not the person, so that
'verify' can still prove all others.

Give every identity of the person: those that are found beside are listed. Look
at the plan first, with --dry-run. To resume after an interruption, run it again.

What it does not reach: BigQuery, Splunk, backups, old versions of objects in a
bucket, quarantined events ('replay --discard'). Exporting the time again brings
the person back.

Examples:
  cfaudit-export erase --data out --identity eve@example.com --dry-run
  cfaudit-export erase --data s3://audit/logs --identity eve@example.com \\
    --identity 1b84a3f0c2d94e5b

Exit codes: 0 done; 1 a file was changed or removed by others; 65 the person is
still named somewhere.
"""

Identities = Annotated[
    list[str] | None,
    typer.Option("--identity", help="e-mail address or actor id of the person; repeatable", metavar="TEXT"),
]


@command(LOGS, epilog=_EPILOG)
def erase(
    shell: Shell,
    settings: Settings,
    *,
    data: DataOption = None,
    account: AccountOption = None,
    identity: Identities = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print what would be done")] = False,
    json: Json = False,
) -> int:
    """Erase a person from exported files, on record."""
    from cfaudit_export.analysis.removal.erase import ErasedFile
    from cfaudit_export.analysis.removal.erase import erase as carry_out
    from cfaudit_export.analysis.removal.person import Person

    person = Person(tuple(identity or ()))
    done: list[ErasedFile] = []
    left: list[UnerasedFile] = []
    with changing(shell, settings, data, account, dry_run=dry_run) as (trusted, work):
        for one in carry_out(trusted, work, person):
            if isinstance(one, ErasedFile):
                done.append(one)
                if not json:
                    shell.terminal.say(_said(one, dry_run=dry_run))
            else:
                left.append(one)
    for one in left:
        shell.terminal.fail(f"{one.name}: {one.why}")
    others = {text for one in done for text in one.others} - {*person.identities}
    if json:
        shell.terminal.answer(as_json({"erased": done, "left": left, "other_identities": sorted(others)}))
    else:
        _sum_up(shell, done, sorted(others), dry_run=dry_run)
    if any(one.is_wrong for one in left):
        return ExitCode.CHANGED
    return ExitCode.INCOMPLETE if left else ExitCode.OK


def _said(one: ErasedFile, *, dry_run: bool) -> str:
    if not one.events:
        return f"{one.name}: what an earlier run had recorded is done"
    events = f"{one.events:,} event{'s' * (one.events != 1)}"
    if dry_run:
        return f"{one.name}: {events} would be rewritten"
    return f"{one.name}: {events} rewritten, as manifest {one.sequence} says"


def _sum_up(shell: Shell, done: list[ErasedFile], others: list[str], *, dry_run: bool) -> None:
    events = sum(one.events for one in done)
    if not done:
        shell.terminal.say("no event names the person")
        return
    shell.terminal.say(f"{events:,} events in {len(done):,} files {'would be' if dry_run else 'were'} rewritten")
    if others:
        shell.terminal.say(f"who did these is also called {', '.join(others)}; give these with --identity, too")
