"""The command `retention`."""

from __future__ import annotations

from datetime import UTC, date, timedelta
from typing import TYPE_CHECKING, Annotated

import typer

from cfaudit_export.cli.changing import changing
from cfaudit_export.cli.command import command
from cfaudit_export.cli.exported import AccountOption, DataOption
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.times import parse_duration
from cfaudit_export.errors import ExitCode, UsageError
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import LOGS

if TYPE_CHECKING:
    from cfaudit_export.analysis.removal.retention import LeftFile, RemovedFiles

_LEAST = timedelta(days=1)
_EPILOG = """
Removes the files of all days that ended longer ago than --older-than, and
writes a manifest that names them, so that 'verify' can tell what was removed on
purpose from what is missing. A file that is not the one that was exported is
left, as its removal would hide that; so are files that no manifest names.

To resume after an interruption, run it again.

Examples:
  cfaudit-export retention --data out --older-than 400d --dry-run
  cfaudit-export retention --data s3://audit/logs --older-than 400d

Exit codes: 0 done; 1 a file was changed or removed by others.
"""


@command(LOGS, epilog=_EPILOG)
def retention(
    shell: Shell,
    settings: Settings,
    *,
    data: DataOption = None,
    account: AccountOption = None,
    older_than: Annotated[
        str | None, typer.Option("--older-than", help="age of the days to remove, such as 400d", metavar="DURATION")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print what would be done")] = False,
    json: Json = False,
) -> int:
    """Remove old days on purpose, on record."""
    from cfaudit_export.analysis.removal.retention import LeftFile, remove_before, said

    before = _first_day_to_stay(shell, older_than)
    removed: list[RemovedFiles] = []
    left: list[LeftFile] = []
    with changing(shell, settings, data, account, dry_run=dry_run) as (trusted, work):
        for one in remove_before(trusted, work, before):
            if isinstance(one, LeftFile):
                left.append(one)
            else:
                removed.append(one)
                if not json:
                    shell.terminal.say(said(one, dry_run=dry_run))
    wrong = [one for one in left if one.is_wrong]
    for one in wrong:
        shell.terminal.fail(f"{one.name}: {one.why}; it is left, see 'cfaudit-export verify'")
    if json:
        shell.terminal.answer(as_json({"removed": removed, "left": left}))
    else:
        if unnamed := len(left) - len(wrong):
            shell.terminal.say(f"{unnamed:,} older files were left: no manifest names them, so remove them by hand")
        if not removed:
            shell.terminal.say("nothing to remove")
    return ExitCode.CHANGED if wrong else ExitCode.OK


def _first_day_to_stay(shell: Shell, older_than: str | None) -> date:
    """Return the first day that does not end so long ago.

    Raises:
        UsageError: that is no age.
    """
    if older_than is None:
        raise UsageError("say which days, as in --older-than 400d")
    try:
        age = parse_duration(older_than)
    except ValueError as error:
        raise UsageError(f"--older-than: {error}") from None
    if age < _LEAST:
        raise UsageError("--older-than must be at least 1d: what is younger may still be written")
    return (shell.clock().astimezone(UTC) - age).date()
