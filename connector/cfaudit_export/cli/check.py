"""The command `check`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

from cfaudit_export.app.accounts import accounts_of
from cfaudit_export.app.compose import Assembly, connected, opened_sinks
from cfaudit_export.app.failover import choose
from cfaudit_export.app.resolve import capped_retry
from cfaudit_export.app.side_by_side import in_order, side_by_side
from cfaudit_export.app.sign_in import current_sign_in
from cfaudit_export.cli.account_table import covered_until
from cfaudit_export.cli.command import command
from cfaudit_export.cli.login import described
from cfaudit_export.cli.run import Json, prepare
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.disk import REFUSALS, try_folder
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import Connection
from cfaudit_export.errors import CfauditError, ExitCode, LockedError, SettingsError, TryAgainError, worst
from cfaudit_export.plugin.interfaces import Source
from cfaudit_export.settings import AUTO, Settings
from cfaudit_export.settings.options import FILTERS, HOW, LOGS, WHAT, WHERE

# A person waits for the answer: of each source, and of all together.
_PATIENCE_SECONDS = 5.0
_MOST_WAIT = timedelta(seconds=20)
_FILES = "file"  # the store that writes into the state folder, which is tried for itself

_EPILOG = """
Example:
  cfaudit-export check --sink parquet -o sinks.parquet.path=out
"""


@dataclass(frozen=True, slots=True)
class CheckResult:
    """What was checked, how it ended, and what was found or what to do."""

    what: str
    exit_code: ExitCode
    said: str


@command(WHAT, WHERE, FILTERS, HOW, LOGS, epilog=_EPILOG)
def check(shell: Shell, settings: Settings, *, json: Json = False) -> int:
    """Test the source and the sinks without exporting anything.

    Connects, reads one event, and tests that every sink can be written to. Ends with the exit code of the worst
    finding.
    """
    assembly = _hurried(prepare(shell, settings))
    findings = []
    for finding in _findings(assembly):
        findings.append(finding)
        if not json:
            word = "failed" if finding.exit_code else "ok"
            shell.terminal.answer(f"{word:<6}  {finding.what}: {finding.said}", indent=8)
    if json:
        shell.terminal.answer(as_json(findings))
    return worst(finding.exit_code for finding in findings)


def _findings(assembly: Assembly) -> Iterator[CheckResult]:
    try:
        with accounts_of(assembly) as accounts:
            looked_at = side_by_side(assembly, accounts, lambda mine, account: tuple(_sources(mine, account)))
            with closing(looked_at):
                for found in in_order(looked_at):
                    yield from found
    except CfauditError as error:
        yield CheckResult("accounts", error.exit_code, str(error))
    yield _found("state folder", lambda: _writable(assembly.settings.state_dir))
    with opened_sinks(assembly) as sinks:
        for name, sink in sinks.items():
            yield _found(f"sink '{name}'", sink.check)


def _sources(assembly: Assembly, account: str) -> Iterator[CheckResult]:
    """Look at the source that a run would read, and at the second one where there is one."""
    try:
        chosen = choose(_hurried(assembly), account)
    except CfauditError as error:
        yield CheckResult(f"source '{AUTO}'", error.exit_code, str(error))
        return
    yield from _source(chosen, account)
    if chosen.filler:
        yield from _source(chosen.filler, account)
    if chosen.otherwise:
        yield _in_reserve(chosen.otherwise, account)


def _hurried(assembly: Assembly) -> Assembly:
    """Return the assembly with sources that give up soon."""
    plugin, config = assembly.source
    other = assembly.otherwise and _hurried(assembly.otherwise)
    wait = assembly.settings.max_wait
    settings = replace(assembly.settings, max_wait=_MOST_WAIT if wait is None else min(wait, _MOST_WAIT))
    return replace(
        assembly, settings=settings, source=(plugin, capped_retry(config, _PATIENCE_SECONDS)), otherwise=other
    )


def _in_reserve(assembly: Assembly, account: str) -> CheckResult:
    """Say whether the other source could go on, were the chosen one gone; that it cannot stops no run."""
    what = f"source '{assembly.source_name}'"
    try:
        with connected(assembly, account) as (source, _):
            source.probe()
    except CfauditError as error:
        return CheckResult(what, ExitCode.OK, f"cannot replace the chosen source if that fails: {error}")
    return CheckResult(what, ExitCode.OK, "can replace the chosen source if that fails")


def _source(assembly: Assembly, account: str) -> Iterator[CheckResult]:
    """Connect, read one event, and look at the checkpoint of what is read."""
    name, assembly = f"source '{assembly.source_name}'", _hurried(assembly)
    try:
        with connected(assembly, account) as (source, connection):
            yield CheckResult(name, ExitCode.OK, _described(connection))
            if len(connection.accounts) > 1:
                yield CheckResult("accounts", ExitCode.OK, _listed(connection))
            if assembly.credential.kind == "oauth":
                yield _found("sign-in", lambda: _sign_in(assembly))
            yield _found("reading", lambda: _probed(source))
            yield _found("checkpoint", lambda: _checkpoint(assembly, connection))
    except CfauditError as error:
        yield CheckResult(name, error.exit_code, str(error))


def _found(what: str, ask: Callable[[], str]) -> CheckResult:
    try:
        return CheckResult(what, ExitCode.OK, ask())
    except CfauditError as error:
        return CheckResult(what, error.exit_code, str(error))


def _writable(folder: Path) -> str:
    try:
        tried = try_folder(folder)
    except OSError as error:
        if why := REFUSALS.get(error.errno or 0):
            raise SettingsError(f"cannot use '{folder}': {why} (--state-dir)") from error
        raise TryAgainError(f"cannot use '{folder}': {error.strerror or error}") from error
    return f"'{folder}' can be written, {tried.free_bytes / 1e9:.1f} GB free"


def _probed(source: Source) -> str:
    source.probe()
    return "events can be read"


def _described(connection: Connection) -> str:
    named = f" ({connection.account_name})" if connection.account_name else ""
    sure = "" if connection.account_verified else " (not verified: the server names no account)"
    return (
        f"account {connection.account_id}{named}{sure} by {connection.credential}, "
        f"{connection.calls_per_page} upstream call{'s' * (connection.calls_per_page != 1)} a page, "
        f"{connection.server}, protocol {connection.protocol}"
    )


def _listed(connection: Connection) -> str:
    accounts = ", ".join(f"{account} ({name})" for account, name in connection.accounts)
    return f"this credential can use {len(connection.accounts)}: {accounts}"


def _sign_in(assembly: Assembly) -> str:
    now = assembly.clock()
    grant = current_sign_in(assembly.settings, assembly.server_url, now)
    return "has expired" if grant is None else described(grant, now)


def _checkpoint(assembly: Assembly, connection: Connection) -> str:
    from cfaudit_export.pipeline.destination import changed

    stream_id = assembly.stream(connection.account_id).id
    found = assembly.store.load(stream_id)
    if assembly.settings.checkpoint.get("store", _FILES) != _FILES:
        with suppress(LockedError), assembly.store.hold(stream_id):  # proves that it can be written, and writes no row
            pass
    if found is None:
        return "none yet, the first run starts one"
    for name, destination in assembly.destinations.items():
        if name in found.checkpoint.sinks and (why := changed(found.checkpoint.sinks[name], destination)):
            raise SettingsError(f"sink '{name}' {why}")
    parts = [f"{name} covered until {covered_until(found.checkpoint, name)}" for name in found.checkpoint.sinks]
    return ", ".join(parts) or "empty"
