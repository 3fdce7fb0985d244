"""The command `replay`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from dataclasses import fields, replace
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfaudit_export.app.manifests import manifest_places
from cfaudit_export.app.resolve import check_names, open_signed_store, resolve_sink, secrets_of
from cfaudit_export.app.transforms import require_transformed, transforms_of
from cfaudit_export.cli.command import command
from cfaudit_export.cli.exported import AccountOption
from cfaudit_export.cli.periods import WHICH
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import Checkpoint, iso
from cfaudit_export.core.plurals import are, counted
from cfaudit_export.errors import CfauditError, ExitCode, UsageError, worst
from cfaudit_export.plugin.interfaces import CheckpointStore
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import LOGS

if TYPE_CHECKING:
    from cfaudit_export.pipeline.quarantine import Quarantine, QuarantinedEvent
    from cfaudit_export.pipeline.replay import ReplayReport

_EPILOG = """
An event that a sink refuses for good is quarantined in the state folder, with
the sink's reason. The export goes on, but runs end with 65 until the event is
replayed or discarded. To resume an interrupted replay, run it again.

Examples:
  cfaudit-export replay --list
  cfaudit-export replay --sink splunk
  cfaudit-export replay --sink splunk --to parquet
  cfaudit-export replay --sink splunk --discard
"""


_Sink = Annotated[
    list[str] | None,
    typer.Option(
        "--sink", help="only events that this sink refused; repeatable", metavar="NAME", rich_help_panel=WHICH
    ),
]


@command("state_dir", LOGS, epilog=_EPILOG)
def replay(
    shell: Shell,
    settings: Settings,
    *,
    sink: _Sink = None,
    account: AccountOption = None,
    show: Annotated[bool, typer.Option("--list", help="list the quarantined events with their reasons")] = False,
    to: Annotated[
        str | None,
        typer.Option("--to", help="load into this sink instead of the one that refused them", metavar="NAME"),
    ] = None,
    discard: Annotated[bool, typer.Option("--discard", help="delete the quarantined events for good")] = False,
    json: Json = False,
) -> int:
    """Load quarantined events again.

    Does not connect to the source.
    """
    if show + discard + (to is not None) > 1:
        raise UsageError("--list, --to and --discard exclude each other; give one of them")
    if discard and not sink:
        raise UsageError("--discard deletes events for good; name the sink, as in --sink splunk")
    from cfaudit_export.pipeline.replay import ReplayTarget, replay_stream
    from cfaudit_export.plugin.registry import load_plugins

    plugins = load_plugins(environ=shell.environ)
    check_names(settings, plugins)
    store = open_signed_store(settings, plugins)
    found = [(one, _quarantine(settings, one, store)) for one in _checkpoints(store, account)]
    if show:
        return _list(shell, found, json=json)
    work = [(aside, name) for checkpoint, aside in found for name in _refusing(checkpoint, aside, sink)]
    if discard:
        return _discard(shell, work, store, json=json)

    def load(aside: Quarantine, refused_by: str) -> ReplayReport:
        name = to or refused_by
        require_transformed(settings, refused_by, name)
        plugin, config = resolve_sink(settings, plugins, name)
        for secret in secrets_of(config):
            shell.terminal.redaction.hide(secret)
        destination = plugin.destination(config) if plugin.destination else None
        with (
            closing(plugin.build(config)) as opened,
            manifest_places(settings, plugins, {name: opened}, {name: destination or name}) as places,
        ):
            hide = shell.terminal.redaction
            target = ReplayTarget(name, opened, refused_by, destination, hide, places.get(name))
            target = replace(target, transforms=transforms_of(settings, plugins))
            return replay_stream(aside, target, store=store, clock=shell.clock, after_load=plugins.after_load)

    return _tell(shell, [_attempt(load, aside, name, to or name) for aside, name in work], json=json)


def _quarantine(settings: Settings, checkpoint: Checkpoint, store: CheckpointStore) -> Quarantine:
    """Return what is quarantined of a stream, brought here where it is kept with the checkpoint."""
    from cfaudit_export.pipeline.quarantine import quarantine_of

    found = quarantine_of(settings.state_dir, checkpoint.stream, store)
    refused = any(progress.quarantined for progress in checkpoint.sinks.values()) or found.sinks()
    return found.fetch() if refused else found


def _checkpoints(store: CheckpointStore, accounts: Sequence[str] | None) -> Iterator[Checkpoint]:
    for stream_id in store.streams():
        found = store.load(stream_id)
        if found and (not accounts or found.checkpoint.stream.account_id in accounts):
            yield found.checkpoint


def _refusing(checkpoint: Checkpoint, aside: Quarantine, wanted: Sequence[str] | None) -> list[str]:
    """Return the sinks that refused something, of those that are wanted."""
    refusing = {name for name, progress in checkpoint.sinks.items() if progress.quarantined} | {*aside.sinks()}
    return sorted(name for name in refusing if not wanted or name in wanted)


def _list(shell: Shell, found: Sequence[tuple[Checkpoint, Quarantine]], *, json: bool) -> int:
    refused = [(aside.stream, one) for _, aside in found for sink in aside.sinks() for one in aside.refused(sink)]
    if json:
        shell.terminal.answer(as_json([{"stream": stream} | _facts(one) for stream, one in refused]))
    elif refused:
        times: dict[tuple[str, str, str], list[datetime]] = {}
        for stream, one in refused:
            times.setdefault((stream.account_id, one.sink, one.reason), []).append(one.event_time)
        rows = [
            (account, sink, f"{len(at):,}", iso(min(at)), iso(max(at)), reason)
            for (account, sink, reason), at in times.items()
        ]
        shell.terminal.table(("account", "sink", ">events", "first", "last", "the sink's reason"), rows)
    lost = [
        (checkpoint.stream.account_id, sink, count)
        for checkpoint, aside in found
        for sink, progress in checkpoint.sinks.items()
        if (count := progress.quarantined - aside.rows(sink)) > 0
    ]
    for account, sink, count in lost:
        shell.terminal.fail(
            f"account {account}: {counted(count, 'more event')} that sink '{sink}' refused {are(count)} quarantined on "
            "another machine, or lost with its disk; --discard counts them no longer"
        )
    if not refused and not lost and not json:
        shell.terminal.answer("nothing is quarantined")
    return ExitCode.INCOMPLETE if refused or lost else ExitCode.OK


def _facts(refused: QuarantinedEvent) -> dict[str, Any]:
    return {one.name: getattr(refused, one.name) for one in fields(refused)}


def _discard(shell: Shell, work: Sequence[tuple[Quarantine, str]], store: CheckpointStore, *, json: bool) -> int:
    from cfaudit_export.pipeline.replay import discard_stream

    done = []
    for aside, sink in work:
        count = discard_stream(aside, sink, store=store, clock=shell.clock)
        done.append({"stream": aside.stream, "sink": sink, "discarded": count})
        if not json:
            shell.terminal.say(
                f"account {aside.stream.account_id}: deleted {counted(count, 'event')} that sink '{sink}' refused"
            )
    if json:
        shell.terminal.answer(as_json(done))
    elif not done:
        shell.terminal.say("nothing is quarantined")
    return ExitCode.OK


def _attempt(
    load: Callable[[Quarantine, str], ReplayReport], aside: Quarantine, refused_by: str, to: str
) -> ReplayReport:
    """Replay for one sink; what stops it is in the report, so that others can follow."""
    from cfaudit_export.pipeline.replay import ReplayReport

    try:
        return load(aside, refused_by)
    except CfauditError as error:
        return ReplayReport(aside.stream, refused_by, to, error=str(error), exit_code=error.exit_code)


def _tell(shell: Shell, reports: Sequence[ReplayReport], *, json: bool) -> int:
    terminal = shell.terminal
    if json:
        terminal.answer(as_json(reports))
    elif reports:
        rows = [
            (one.stream.account_id, one.refused_by, one.to, f"{one.rows:,}", one.refused, one.left) for one in reports
        ]
        terminal.table(("account", "refused by", "loaded into", ">stored", ">refused again", ">left"), rows)
    else:
        terminal.say("nothing is quarantined")
    for report in reports:
        if report.error:
            terminal.fail(f"account {report.stream.account_id}, sink '{report.to}': {report.error}")
    return worst(report.exit_code for report in reports)
