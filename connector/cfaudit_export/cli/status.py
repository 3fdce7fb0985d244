"""The command `status`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfaudit_export.app.health import ExpectedStreams, Health, Level, examine
from cfaudit_export.app.resolve import offered_sources, open_store, resolve_source, server_url_of
from cfaudit_export.app.sign_in import current_sign_in
from cfaudit_export.auth import kept_grant
from cfaudit_export.auth.token import VARIABLE
from cfaudit_export.cli.account_table import covered_until
from cfaudit_export.cli.command import command
from cfaudit_export.cli.login import described
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.shell import Shell
from cfaudit_export.cli.terminal import PROGRAM
from cfaudit_export.core.gaps import open_gaps
from cfaudit_export.core.intervals import holes
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import Checkpoint, SinkProgress, Stream
from cfaudit_export.core.times import show_duration
from cfaudit_export.errors import CfauditError, ExitCode, UsageError, worst
from cfaudit_export.plugin.interfaces import CheckpointStore
from cfaudit_export.proof.chain import chain_of
from cfaudit_export.settings import Settings, values
from cfaudit_export.settings.options import LOGS

if TYPE_CHECKING:
    from cfaudit_export.auth.grants import Grant
    from cfaudit_export.plugin.registry import Plugins

_CODES = "\n".join(f"  {level.value:>3}  {level.name}: {level.meaning}" for level in Level)
_EPILOG = f"""
--check prints one line for a monitor, with the exit codes that Nagios and
Icinga expect:
{_CODES}

Examples:
  cfaudit-export status --json
  cfaudit-export status --check --max-lag 1h
"""


@command("account", "source", "server_url", "profile", "sink", "state_dir", LOGS, epilog=_EPILOG)
def status(
    shell: Shell,
    settings: Settings,
    *,
    check: Annotated[bool, typer.Option("--check", help="print one line for a monitor")] = False,
    max_lag: Annotated[
        str, typer.Option("--max-lag", help="with --check: longest acceptable lag (default: 2h)", metavar="DURATION")
    ] = "2h",
    json: Json = False,
) -> int:
    """Show the progress of each stream and sink.

    Also shows when the sign-in ends. Reads the checkpoints only: no network, no credential.
    """
    from cfaudit_export.auth.grants import grant_days_left
    from cfaudit_export.plugin.registry import load_plugins

    if check:
        return _check(shell, settings, max_lag)
    plugins = load_plugins(environ=shell.environ)
    store, now = open_store(settings, plugins), shell.clock()
    checkpoints = []
    grants, codes = _sign_ins(shell, settings, plugins)
    for found in checkpoints_of(store):
        if isinstance(found, CfauditError):
            shell.terminal.fail(str(found))
            codes.append(found.exit_code)
        elif found.stream.account_id in (settings.named_accounts or (found.stream.account_id,)):
            checkpoints.append(found)
    checkpoints = _current(checkpoints)
    if json:
        left = {name: grant_days_left(grant, now) for name, grant in grants.items()}
        listed = [_described(one, now) | {"grant_days_left": left.get(one.stream.source)} for one in checkpoints]
        shell.terminal.answer(as_json(listed))
        return worst(codes)
    for one in checkpoints:
        _show(shell, one)
    if not checkpoints and not codes:
        shell.terminal.answer(f"nothing exported yet; no checkpoints under '{settings.state_dir}'")
    for grant in grants.values():
        shell.terminal.answer(described(grant, now))
    return worst(codes)


def _sign_ins(shell: Shell, settings: Settings, plugins: Plugins) -> tuple[dict[str, Grant], list[ExitCode]]:
    """Return the sign-in of each source that has one, and the exit codes of those that are dead or cannot be read."""
    from cfaudit_export.auth.grants import dead_because

    found, codes = {}, []
    for name in offered_sources(settings, plugins):
        try:
            url = server_url_of(resolve_source(settings.using(name), plugins))
            if (grant := current_sign_in(settings, url, shell.clock())) is not None:
                found[name] = grant
                if (why := dead_because(grant)) is not None:
                    shell.terminal.fail(why)
                    codes.append(ExitCode.ACCESS)
        except CfauditError as error:
            shell.terminal.fail(str(error))
            codes.append(error.exit_code)
    return found, codes


def _check(shell: Shell, settings: Settings, max_lag: str) -> int:
    """Say in one line how things are, whatever happens."""
    try:
        lag = values.length(max_lag, shell.clock())
    except ValueError as error:
        raise UsageError(f"--max-lag: {error}") from None
    try:
        health = _examined(shell, settings, lag)
    except CfauditError as error:
        shell.terminal.answer(f"{Level.UNKNOWN.name} - {error}")
        return Level.UNKNOWN
    shell.terminal.answer(health.line)
    return health.level


def _examined(shell: Shell, settings: Settings, max_lag: timedelta) -> Health:
    from cfaudit_export.auth.grants import dead_because, grant_days_left
    from cfaudit_export.plugin.registry import load_plugins

    plugins, now = load_plugins(environ=shell.environ), shell.clock()
    has_token = shell.environ.get(VARIABLE) or settings.token_file or settings.token_keyring
    sources = {name: resolve_source(settings.using(name), plugins) for name in offered_sources(settings, plugins)}
    found = list(checkpoints_of(open_store(settings, plugins)))
    used = {one.stream.source for one in found if isinstance(one, Checkpoint)} & sources.keys()
    # Of several sources, only what has been read by is looked after: the other one may have no sign-in at all.
    kept = [kept_grant(settings, server_url_of(sources[name])) for name in used or sources if not has_token]
    dead = [why for grant in kept if grant is not None and (why := dead_because(grant)) is not None]
    ends = [left for grant in kept if grant is not None and (left := grant_days_left(grant, now)) is not None]
    plugin = next(iter(sources.values()))[0]
    filters = tuple(sorted(settings.filters.items()))
    return examine(
        [one for one in found if isinstance(one, Checkpoint)],
        ExpectedStreams(plugin.log or plugin.name, filters, settings.named_accounts, settings.sink, max_lag),
        now,
        unreadable=[str(one) for one in found if isinstance(one, CfauditError)],
        days_to_sign_in=min(ends, default=None),
        dead=dead,
    )


def checkpoints_of(store: CheckpointStore) -> Iterator[Checkpoint | CfauditError]:
    """Yield every checkpoint, and an error in the place of each that cannot be read."""
    for stream_id in store.streams():
        try:
            found = store.load(stream_id)
        except CfauditError as error:
            yield error
        else:
            if found is not None:
                yield found.checkpoint


def named(stream: Stream) -> str:
    """Return a stream for people."""
    filters = "".join(f", {name}={value}" for name, value in stream.filters)
    part = f", slice {stream.slice}" if stream.slice else ""
    return f"account {stream.account_id}, {stream.source}{filters}{part} (stream {stream.id})"


def _current(checkpoints: list[Checkpoint]) -> list[Checkpoint]:
    """Leave out slices that were released, unless something of theirs is quarantined."""
    leased = {replace(one.stream, slice=window).id for one in checkpoints for window in one.leased}
    return [
        one
        for one in checkpoints
        if one.stream.slice is None
        or one.stream.id in leased
        or any(progress.quarantined for progress in one.sinks.values())
    ]


def _described(checkpoint: Checkpoint, now: datetime) -> dict[str, Any]:
    return {
        "stream": checkpoint.stream,
        "updated_at": checkpoint.updated_at,
        "lateness": checkpoint.lateness,
        "gaps": open_gaps(checkpoint),
        "leased": checkpoint.leased,
        "identity_key": checkpoint.identity,
        "sinks": {
            name: _progress(progress, now) | {"manifest": _manifest(checkpoint, name)}
            for name, progress in checkpoint.sinks.items()
        },
    }


def _progress(progress: SinkProgress, now: datetime) -> dict[str, Any]:
    until = progress.covered[-1].before if progress.covered else None
    return {
        "covered": progress.covered,
        "covered_until": until,
        "lag_seconds": (now - until).total_seconds() if until else None,
        "holes": holes(progress.covered),
        "intents": [{"batch_id": one.batch_id, "window": one.window, "rows": one.rows} for one in progress.intents],
        "rows": progress.rows,
        "quarantined": progress.quarantined,
        "trimmed_rows": progress.trimmed_rows,
        "trimmed_overdue_rows": progress.overdue_rows(now),
        "trimmed": progress.trimmed,
    }


def _manifest(checkpoint: Checkpoint, sink: str) -> dict[str, Any] | None:
    """Return what is remembered of the newest manifest of a sink; None before there is one."""
    proof = checkpoint.sinks[sink].proof
    if not proof.sequence:
        return None
    return {
        "anchor": f"{chain_of(checkpoint.stream.id, sink)}:{proof.sequence}:{proof.sha256}",
        "covered": proof.covered,
        "unsealed_batches": len(proof.unsealed),
    }


def _show(shell: Shell, checkpoint: Checkpoint) -> None:
    terminal, late = shell.terminal, checkpoint.lateness
    terminal.answer(named(checkpoint.stream))
    now = shell.clock()
    rows = [
        (
            name,
            covered_until(checkpoint, name),
            show_duration(now - progress.covered[-1].before) if progress.covered else "-",
            f"{progress.rows:,}",
            len(holes(progress.covered)),
            len(progress.intents),
            progress.quarantined,
            f"{progress.trimmed_rows:,}",
        )
        for name, progress in checkpoint.sinks.items()
    ]
    terminal.table(("sink", "covered until", ">lag", ">rows", ">holes", ">pending", ">quarantined", ">trimmed"), rows)
    for name in checkpoint.sinks:
        if manifest := _manifest(checkpoint, name):
            terminal.answer(f"newest manifest: {manifest['anchor']}")
    if checkpoint.identity:
        terminal.answer(f"identity key: {checkpoint.identity}")
    if gaps := open_gaps(checkpoint):
        terminal.answer(f"gaps: {len(gaps):,}; '{PROGRAM} gaps' lists them")
    for window in checkpoint.leased:
        terminal.answer(f"leased to slice {window}, until a run of it has finished")
    if late.count:
        terminal.answer(f"late events: {late.count:,}, still missing up to {late.max_seconds:,.0f} s after their time")
