"""The commands `demo` and `sandbox`: everything without an account."""

from __future__ import annotations

import shlex
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime
from importlib.util import find_spec
from itertools import zip_longest
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfaudit_export.app.compose import compose
from cfaudit_export.app.export import export
from cfaudit_export.app.log import logging_to
from cfaudit_export.auth.token import VARIABLE
from cfaudit_export.cli.command import command
from cfaudit_export.cli.progress import progress_bar
from cfaudit_export.cli.run import Json
from cfaudit_export.cli.sandbox_options import knob_parameters, sandbox_options
from cfaudit_export.cli.shell import Shell
from cfaudit_export.cli.terminal import program
from cfaudit_export.core.durable import SHARED, make_folder
from cfaudit_export.core.installing import install_command
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import RunReport, iso
from cfaudit_export.core.plurals import counted
from cfaudit_export.errors import UsageError
from cfaudit_export.settings import Settings

if TYPE_CHECKING:
    import pyarrow as pa

    from cfaudit_sandbox import Sandbox

_MARKER = ".cfaudit-demo"
_FOLDERS = ("parquet", "state")
_TOP = 5
_REPORT = "report.html"
_STATEMENT = "select actor_email, count(*) from audit_events group by all"
# What answers need beside the program itself.
_ANSWERING = ("duckdb", "jinja2", "vl_convert")
# developers.cloudflare.com/fundamentals/api/reference/limits: so many calls of a user in five minutes.
_THROTTLE_CALLS = 1_200


@command(
    epilog="""
Example:
  cfaudit-export demo --events 20000 --dir /tmp/demo
"""
)
def demo(
    shell: Shell,
    *,
    events: Annotated[
        int, typer.Option("--events", help="number of events (default: 5000)", metavar="N", min=0)
    ] = 5_000,
    seed: Annotated[int, typer.Option("--seed", help="seed of the made-up events (default: 1)", metavar="N")] = 1,
    folder: Annotated[str, typer.Option("--dir", help="folder to write to (default: demo)", metavar="DIR")] = "demo",
) -> int:
    """Export made-up events into ./demo, to see how it works.

    Starts an emulated Audit Logs server on this machine, exports from it over HTTP into Parquet files, and shows
    the result. Needs no account and no network. Replaces an earlier demo in the folder.
    """
    from cfaudit_sandbox import Sandbox, SandboxOptions, World
    from cfaudit_sandbox.oauth.server import OAuth

    terminal = shell.terminal
    directory = _prepared(Path(folder))
    world = World(SandboxOptions(events=events, seed=seed, throttle_calls=_THROTTLE_CALLS))
    with Sandbox(world, authorization=OAuth(world)) as sandbox:
        terminal.say(f"sandbox started: {sandbox.mcp_url}, {counted(events, 'event')} of 30 days")
        with logging_to(terminal, form="text", verbosity=-1, redaction=terminal.redaction):
            settings = _settings(directory, sandbox)
            report = _exported(shell, settings, sandbox)
        spent = sandbox.upstream.counts["upstream_calls"]
    for error in (report.error, *(sink.error for sink in report.sinks)):
        if error:
            terminal.fail(error)
    rows = sum(sink.rows for sink in report.sinks)
    seconds = (report.finished_at - report.started_at).total_seconds()
    terminal.say(
        f"exported {counted(rows, 'event')} over HTTP into Parquet in {seconds:.1f} s, {counted(report.calls, 'call')}"
    )
    terminal.say(f"they cost {spent:,} of the {_THROTTLE_CALLS:,} API calls that Cloudflare allows in five minutes")
    if report.trimmed:
        terminal.say(
            f"{counted(report.trimmed, 'event')} without all columns: the budget of calls was used up; later runs "
            "deliver them"
        )
    if rows:
        _show_events(shell, directory)
    _show_files(shell, directory)
    if rows:
        _show_next_steps(shell, directory, settings)
    return report.exit_code


@command(
    more=knob_parameters,
    epilog="""
A SHARE is between 0 and 1. A DURATION is like 150ms, 30s, 12h or 90d.

Example:
  cfaudit-export sandbox --events 100000 --latency 150ms --poison all=10
""",
)
def sandbox(
    shell: Shell,
    *,
    host: Annotated[str, typer.Option("--host", help="address to listen on (default: 127.0.0.1)")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", help="port to listen on (default: a free one)", metavar="N", min=0, max=65_535)
    ] = 0,
    json: Json = False,
    **knobs: Any,
) -> int:
    """Serve an emulated Audit Logs server until Ctrl-C.

    The same options serve the same events. The tokens are made up and work here only. Signing in works too, also
    for --source codemode.
    """
    from cfaudit_sandbox import World, serve
    from cfaudit_sandbox.oauth.server import OAuth

    try:
        world = World(sandbox_options(knobs, shell.clock()))
    except ValueError as error:
        raise UsageError(str(error)) from None
    try:
        serve(
            world,
            host,
            port,
            on_ready=lambda ready: _show_sandbox(shell, ready, json=json),
            authorization=OAuth(world),
        )
    except OSError as error:
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return 0


def _prepared(directory: Path) -> Path:
    """Return the folder, empty but for its mark; only what a former demo left is removed.

    Raises:
        UsageError: there is something else in it, or it cannot be made.
    """
    mark = directory / _MARKER
    try:
        if directory.exists() and not mark.is_file() and any(directory.iterdir()):
            raise UsageError(f"'{directory}' is not empty and not a former demo; name another folder with --dir")
        for name in _FOLDERS:
            if (directory / name).exists():
                shutil.rmtree(directory / name)
        make_folder(directory, mode=SHARED)
        mark.touch(mode=SHARED)
    except OSError as error:
        raise UsageError(f"'{directory}' cannot hold the demo: {error.strerror or error}") from None
    return directory


def _settings(directory: Path, sandbox: Sandbox) -> Settings:
    """Return the settings of the demo. Whatever file or variables are around belong to real exports."""
    return Settings(
        source="auditlogs",
        sink=("parquet",),
        trust_account=True,
        since=datetime.fromtimestamp(sandbox.world.since, UTC),
        state_dir=directory / "state",
        sources={"auditlogs": {"server_url": sandbox.mcp_url}},
        sinks={"parquet": {"path": str(directory / "parquet")}},
    )


def _exported(shell: Shell, settings: Settings, sandbox: Sandbox) -> RunReport:
    from cfaudit_export.plugin.registry import load_plugins

    environ = {VARIABLE: sandbox.world.tokens["user"]}
    assembly = compose(settings, load_plugins(environ=shell.environ), environ=environ, clock=shell.clock)
    with progress_bar(shell.terminal, "demo") as listeners:
        return export(assembly, sandbox.world.accounts[0].id, listeners)


def _show_events(shell: Shell, directory: Path) -> None:
    """Show what arrived, read back from the files."""
    import pyarrow.compute as pc
    import pyarrow.dataset as ds

    columns = ["event_time", "resource_product", "actor_email"]
    table = ds.dataset(directory / "parquet", format="parquet").to_table(columns=columns)
    terminal = shell.terminal
    first, last = (iso(pick(table["event_time"]).as_py()) for pick in (pc.min, pc.max))
    terminal.say(f"\nread back: {table.num_rows:,} rows, from {first} to {last}\n")
    tops = [_top(table, name) for name in columns[1:]]
    rows = [left + right for left, right in zip_longest(*tops, fillvalue=("", ""))]
    terminal.table(("product", ">events", "actor", ">events"), rows, answer=False)


def _top(table: pa.Table, column: str) -> list[tuple[str, str]]:
    counted = sorted(table[column].value_counts().to_pylist(), key=lambda one: (-one["counts"], str(one["values"])))
    return [(one["values"] or "(none)", f"{one['counts']:,}") for one in counted[:_TOP]]


def _show_files(shell: Shell, directory: Path) -> None:
    files = sorted((directory / "parquet").rglob("*.parquet"))
    size = sum(file.stat().st_size for file in files)
    shell.terminal.say(
        f"\nin '{directory.resolve()}': {counted(len(files), 'file')}, {size / 1024:,.0f} KiB, for example"
    )
    for file in files[:2]:
        shell.terminal.say(f"  {file.relative_to(directory)}")
    shell.terminal.say(
        f"  {next(_checkpoints(directory), 'state')}  (the checkpoint: the next run continues from there)"
    )


def _checkpoints(directory: Path) -> Iterator[Path]:
    for file in sorted((directory / "state").rglob("*.json")):
        yield file.relative_to(directory)


def _show_next_steps(shell: Shell, directory: Path, settings: Settings) -> None:
    """Say what a person may want next, as commands that work when they are pasted."""
    called, data = program(), shlex.quote(str(directory / "parquet"))
    state = f"--state-dir {shlex.quote(str(directory / 'state'))}"
    if can_answer := all(find_spec(name) for name in _ANSWERING):
        steps = [("the report, in a browser", _report(shell, directory, settings))]
    else:
        steps = [("for the answers below", install_command("analysis"))]
    steps += [
        ("a summary here", f"{called} report --data {data} {state}"),
        ("who did what", f"{called} timeline --data {data} {state} --since 2d"),
        ("anything in SQL", f'{called} sql --data {data} "{_STATEMENT}"'),
        ("how far the export is", f"{called} status {state}"),
        ("what the columns mean", f"{called} schema"),
        ("your own account", f"{called} init"),
    ]
    width = max(len(what) for what, _ in steps)
    lines = "\n".join(f"  {what:<{width}}  {how}" for what, how in steps)
    shell.terminal.say(f"\nnext{'' if can_answer else ' (answers need an extra)'}\n{lines}")


def _report(shell: Shell, directory: Path, settings: Settings) -> str:
    """Write the report of the last week beside the data, and return the name of its file."""
    from cfaudit_export.analysis.render.findings import section
    from cfaudit_export.analysis.render.report_page import report_page
    from cfaudit_export.cli.exported import ask, open_data_location, remembered, save
    from cfaudit_export.cli.periods import window, zone_of
    from cfaudit_export.cli.report import summarised

    place = open_data_location(settings, None)
    known = remembered(shell, settings, place)
    zone = zone_of(shell, None)
    question = ask(settings, window(shell, "7d", None, known.until(()), zone=zone), (), zone.key)
    file = str(directory / _REPORT)
    made, found = summarised(shell, settings, place, question, known)
    save(report_page(made, [section(found, question)]), file)
    return file


def _show_sandbox(shell: Shell, sandbox: Sandbox, *, json: bool) -> None:
    world, terminal = sandbox.world, shell.terminal
    if json:
        accounts = [{"id": account.id, "name": account.name} for account in world.accounts]
        urls = {"url": sandbox.url, "mcp_url": sandbox.mcp_url, "codemode_url": sandbox.codemode_url}
        facts = {**urls, "tokens": world.tokens, "accounts": accounts}
        terminal.answer(as_json(facts))
        return
    terminal.say(f"serving {world.options.events:,} events per account at {sandbox.mcp_url}")
    terminal.say(f"the same events as whole records, for --source codemode, at {sandbox.codemode_url}; Ctrl-C stops\n")
    terminal.table(("account", "name"), [(account.id, account.name) for account in world.accounts], answer=False)
    terminal.say()
    terminal.table(("token", "made up"), world.tokens.items(), answer=False)
    account = f"--account {world.accounts[0].id} " if len(world.accounts) > 1 else ""
    terminal.say(f"""
{VARIABLE}={world.tokens["user"]} \\
  {program()} --server-url {sandbox.mcp_url} {account}\\
  --sink parquet -o sinks.parquet.path=out --state-dir state""")
