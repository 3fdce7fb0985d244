"""The command `compact`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfaudit_export.cli.command import command
from cfaudit_export.cli.exported import AccountOption, DataOption, accounts, limits, location
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.plurals import counted
from cfaudit_export.errors import ExitCode, UsageError
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import LOGS

if TYPE_CHECKING:
    from cfaudit_export.analysis.files.compact import Compacted
    from cfaudit_export.analysis.files.sealed import SealedFiles

_EPILOG = """
Merges the files of each day that ended over --rescan ago. Rows do not change:
this is checked before a file is removed. Later events make a new file, which
the next 'compact' merges. Runs and readers may work at the same time.

For folders only. In S3 the sink recognises a batch by the name of its object,
and would deliver a merged batch again.

Example:
  cfaudit-export compact --data out
"""


@command("rescan", LOGS, epilog=_EPILOG)
def compact(
    shell: Shell,
    settings: Settings,
    *,
    data: DataOption = None,
    account: AccountOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only print what would be done")] = False,
    json: Json = False,
) -> int:
    """Merge small files of past days."""
    from cfaudit_export.analysis.files.compact import compact as merge
    from cfaudit_export.analysis.files.location import S3
    from cfaudit_export.analysis.files.open import open_location

    where = location(settings, data)
    if where.startswith(S3):
        raise UsageError(f"compact works on folders, not on '{where}' (see 'cfaudit-export compact --help')")
    place = open_location(where)
    done = []
    for one in merge(
        place,
        now=shell.clock(),
        settled=settings.rescan,
        accounts=accounts(shell, settings, account),
        dry_run=dry_run,
        limits=limits(settings),
        sealed=_sealed(shell, settings, Path(place.root)),
    ):
        done.append(one)
        if not json:
            shell.terminal.say(f"account {one.account_id}, {one.day}: {_said(one, dry_run=dry_run)}")
    if json:
        shell.terminal.answer(as_json(done))
    elif not done:
        shell.terminal.say("nothing to merge")
    return ExitCode.OK


def _sealed(shell: Shell, settings: Settings, root: Path) -> SealedFiles | None:
    """Return what manifests say of the files, unless the settings want none."""
    from cfaudit_export.analysis.files.sealed import sealed_files
    from cfaudit_export.proof.keys import load_key

    integrity = settings.integrity
    if integrity.manifests is False:
        return None
    return sealed_files(root, [load_key(integrity.key_file)] if integrity.key_file else [], shell.clock())


def _said(one: Compacted, *, dry_run: bool) -> str:
    if not one.merged:  # a run before this one was stopped when it had merged them
        return f"{counted(one.removed, 'merged file')} {'would be removed' if dry_run else 'removed'}"
    became = "would become" if dry_run else f"({one.bytes_before:,} bytes) became"
    size = "" if dry_run else f" ({one.bytes_after:,} bytes)"
    return f"{one.merged} files {became} one{size}, {counted(one.rows, 'row')}"
