"""The command `status`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Any

from cfaudit_export.assemble import open_store
from cfaudit_export.cli.command import Shell, command
from cfaudit_export.cli.encode import as_json
from cfaudit_export.cli.export import Json, covered_until
from cfaudit_export.errors import CfauditError, ExitCode, worst
from cfaudit_export.interfaces import CheckpointStore
from cfaudit_export.model import Checkpoint, SinkProgress, Window
from cfaudit_export.settings import Settings
from cfaudit_export.settings.options import LOGS
from cfaudit_export.times import show_duration

_EPILOG = """
Example:
  cfaudit-export status --json
"""


@command("state_dir", LOGS, epilog=_EPILOG)
def status(shell: Shell, settings: Settings, *, json: Json = False) -> int:
    """Show how far each stream and sink is.

    Reads checkpoints and nothing else: no network, no credential.
    """
    from cfaudit_export.plugins import load_plugins

    store = open_store(settings, load_plugins(environ=shell.environ))
    codes, checkpoints = [ExitCode.OK], []
    for found in _checkpoints(store):
        if isinstance(found, CfauditError):
            shell.terminal.fail(str(found))
            codes.append(found.exit_code)
        else:
            checkpoints.append(found)
    if json:
        shell.terminal.answer(as_json([_described(one, shell.clock()) for one in checkpoints]))
    elif checkpoints:
        for one in checkpoints:
            _show(shell, one)
    elif len(codes) == 1:
        shell.terminal.answer(f"nothing exported yet; no checkpoints under '{settings.state_dir}'")
    return worst(codes)


def _checkpoints(store: CheckpointStore) -> Iterator[Checkpoint | CfauditError]:
    """Yield every checkpoint, and an error in the place of each that cannot be read."""
    for stream_id in store.streams():
        try:
            found = store.load(stream_id)
        except CfauditError as error:
            yield error
        else:
            if found is not None:
                yield found.checkpoint


def _described(checkpoint: Checkpoint, now: datetime) -> dict[str, Any]:
    return {
        "stream": checkpoint.stream,
        "updated_at": checkpoint.updated_at,
        "lateness": checkpoint.lateness,
        "gaps": checkpoint.gaps,
        "sinks": {name: _progress(progress, now) for name, progress in checkpoint.sinks.items()},
    }


def _progress(progress: SinkProgress, now: datetime) -> dict[str, Any]:
    until = progress.covered[-1].before if progress.covered else None
    return {
        "covered": progress.covered,
        "covered_until": until,
        "lag_seconds": (now - until).total_seconds() if until else None,
        "holes": _holes(progress),
        "intents": [{"batch_id": one.batch_id, "window": one.window, "rows": one.rows} for one in progress.intents],
        "rows": progress.rows,
        "quarantined": progress.quarantined,
    }


def _holes(progress: SinkProgress) -> tuple[Window, ...]:
    """Return what was never read between what is covered."""
    pairs = zip(progress.covered, progress.covered[1:], strict=False)
    return tuple(Window(left.before, right.since) for left, right in pairs)


def _show(shell: Shell, checkpoint: Checkpoint) -> None:
    terminal, stream, late = shell.terminal, checkpoint.stream, checkpoint.lateness
    filters = "".join(f", {name}={value}" for name, value in stream.filters)
    terminal.answer(f"account {stream.account_id}, {stream.source}{filters} (stream {stream.id})")
    now = shell.clock()
    rows = [
        (
            name,
            covered_until(checkpoint, name),
            show_duration(now - progress.covered[-1].before) if progress.covered else "-",
            f"{progress.rows:,}",
            len(_holes(progress)),
            len(progress.intents),
            progress.quarantined,
        )
        for name, progress in checkpoint.sinks.items()
    ]
    terminal.table(("sink", "covered until", ">lag", ">rows", ">holes", ">pending", ">set aside"), rows)
    for gap in checkpoint.gaps:
        terminal.answer(f"gap {gap.window}, {gap.rows or 'unknown'} rows, tried {gap.attempts} times: {gap.reason}")
    if late.count:
        terminal.answer(f"late events: {late.count:,}, at most {late.max_seconds:,.0f} s after their time")
