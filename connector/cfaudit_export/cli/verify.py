"""The command `verify`: offline, by manifests; or with the source, which is in `compare`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cfaudit_export.cli import compare
from cfaudit_export.cli.command import command
from cfaudit_export.cli.exported import DataOption, accounts, limits, location
from cfaudit_export.cli.proof import PROOF, Anchors, Keys, anchors_in
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import floor_ms
from cfaudit_export.errors import SettingsError, UsageError
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import FILTERS, LOGS, WHERE

if TYPE_CHECKING:
    from cfaudit_export.analysis.files.location import Location
    from cfaudit_export.analysis.verify.verified import Verified

_EPILOG = """
Without --source: proves with the signed manifests of an export, and a public
key, that the files were not changed, that nothing is missing between two times
and that no event is stored twice. Needs no settings, no state folder, and no
network except for s3:// places. The documentation, under Proof, says what is
proved and what is not.

Every fault is one line. If the newest manifests were removed, only --anchor
shows it: an anchor is a line that runs log, or a copy of it.

Rows of BigQuery and Splunk are verified in an extract: Parquet, or one JSON
object per line, with event_id and batch_id.

With --source: compares exported files and source event by event. To find
faults of a run, the source is read differently: newest first, by time instead
of by cursor, with other page sizes; --by-filter also reads it by the values of
one filter. By default a sample of the exported time is compared; the same seed
chooses the same parts. The number of calls is printed before the first call.
--repair records missing events as gaps, which 'gaps --retry' or the next runs
read and deliver.

Examples:
  cfaudit-export verify --data out --public-key audit.pub
  cfaudit-export verify --data s3://audit/logs --public-key audit.pub \\
    --since 2026-11-01 --until 2026-12-01 --anchor anchors.log
  cfaudit-export verify --source --data out --since 7d --all --repair

Exit codes: 0 proved, or equal; 1 changed, removed or added; 65 valid but
incomplete, or different.
"""

Manifests = Annotated[
    str | None,
    typer.Option(
        "--manifests", help="folder of the manifests (default: with the data)", metavar="PLACE", rich_help_panel=PROOF
    ),
]
Authorities = Annotated[
    list[str] | None,
    typer.Option(
        "--tsa-certificate",
        help="certificates of time stamping authorities (PEM), to look at timestamps; repeatable",
        metavar="FILE",
        rich_help_panel=PROOF,
    ),
]
Rows = Annotated[
    list[str] | None,
    typer.Option(
        "--rows", help="extract of the rows of a warehouse; repeatable", metavar="FILE", rich_help_panel=PROOF
    ),
]


@command(
    "account",
    "since",
    "until",
    "server_url",
    "header",
    "insecure_http",
    "profile",
    WHERE,
    FILTERS,
    "max_wait",
    LOGS,
    epilog=_EPILOG,
)
def verify(
    shell: Shell,
    settings: Settings,
    *,
    data: DataOption = None,
    manifests: Manifests = None,
    public_key: Keys = None,
    anchor: Anchors = None,
    tsa_certificate: Authorities = None,
    rows: Rows = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="do not read the rows of files", rich_help_panel=PROOF)
    ] = False,
    source: Annotated[
        bool, typer.Option("--source", help="compare with the source instead", rich_help_panel=compare.HOW)
    ] = False,
    sample: compare.Sample = compare.SAMPLE,
    everything: compare.Everything = False,
    seed: compare.Seed = 0,
    by_filter: compare.ByFilter = False,
    repair: compare.Repair = False,
    json: Json = False,
) -> int:
    """Prove exported files, or compare them with the source.

    Lists everything that is wrong before it ends.
    """
    given = _Given(data, manifests, public_key or (), anchor or (), tsa_certificate or (), rows or (), quick)
    if source:
        if given != _Given(data):
            raise UsageError("--source cannot be combined with options of the proof; run verify twice")
        how = compare.How(None if everything else sample, seed, by_filter, repair)
        return compare.compare_accounts(shell, settings, data, how, json=json)
    verified = _proved(shell, settings, given)
    if json:
        shell.terminal.answer(as_json({"exit_code": verified.exit_code, "verified": verified}))
    else:
        for line in verified.lines:
            shell.terminal.answer(line)
    return verified.exit_code


@dataclass(frozen=True, slots=True)
class _Given:
    """What the options of the proof give."""

    data: str | None
    manifests: str | None = None
    keys: Sequence[str] = ()
    anchors: Sequence[str] = ()
    authorities: Sequence[str] = ()
    rows: Sequence[str] = ()
    quick: bool = False


def _proved(shell: Shell, settings: Settings, given: _Given) -> Verified:
    """Return what is proved of the places that the options name.

    Raises:
        SettingsError: a key or a place cannot be used.
    """
    from cfaudit_export.analysis.files.location import reading_failed
    from cfaudit_export.analysis.verify.extract import read_extract
    from cfaudit_export.analysis.verify.records import read_records
    from cfaudit_export.analysis.verify.verify import Asked, verify
    from cfaudit_export.proof.keys import load_public_key
    from cfaudit_export.proof.timestamp import load_authorities

    asked = Asked(
        keys=tuple(load_public_key(Path(one).expanduser()) for one in given.keys),
        since=floor_ms(settings.since) if settings.since else None,
        until=floor_ms(settings.until) if settings.until else None,
        accounts=accounts(shell, settings, None),
        anchors=tuple(found for one in given.anchors for found in anchors_in(one)),
        authorities=load_authorities(Path(one).expanduser() for one in given.authorities)
        if given.authorities
        else None,
        quick=given.quick,
        limits=limits(settings),
    )
    if asked.since and asked.until and asked.since >= asked.until:
        raise UsageError("--since must be earlier than --until")
    place = _place(settings, given.data, needed=given.manifests is None)
    beside = _place(settings, given.manifests, needed=True) if given.manifests else place
    assert beside is not None  # noqa: S101  # one of both was needed
    at = beside
    try:
        records = read_records(beside)
        at = place or beside
        return verify(place, records, asked, read_extract(map(Path, given.rows)) if given.rows else None)
    except OSError as error:
        raise reading_failed(at, error) from error


def _place(settings: Settings, named: str | None, *, needed: bool) -> Location | None:
    """Return a place; None where none is named, and none is needed.

    Raises:
        UsageError: none is named, and one is needed.
        SettingsError: it does not exist.
    """
    from cfaudit_export.analysis.files.open import open_location

    try:
        where = location(settings, named)
    except UsageError:
        if needed:
            raise
        return None
    try:
        return open_location(where, settings.sinks.get("s3"))
    except UsageError as error:
        raise SettingsError(str(error)) from error
