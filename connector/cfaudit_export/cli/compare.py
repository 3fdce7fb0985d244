"""`verify --source`: an export compared with its source, independently of the runs that made it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cfaudit_export.api import compose_runs
from cfaudit_export.app.accounts import accounts_of
from cfaudit_export.app.compose import Assembly, connected
from cfaudit_export.app.failover import choose
from cfaudit_export.app.transforms import transforms_of
from cfaudit_export.cli.exported import open_data_location, remembered
from cfaudit_export.cli.run import of_account
from cfaudit_export.cli.shell import Shell
from cfaudit_export.core.jsonable import as_json
from cfaudit_export.core.model import EPOCH, Checkpoint, Window, floor_ms, iso
from cfaudit_export.core.plurals import counted
from cfaudit_export.errors import CfauditError, ExitCode, SettingsError, UsageError, worst
from cfaudit_export.pipeline.begun import require_identity
from cfaudit_export.pipeline.ledger import Ledger
from cfaudit_export.settings import Settings

if TYPE_CHECKING:
    from cfaudit_export.analysis.files.location import Location
    from cfaudit_export.app.verify import ComparedWindow, RereadOptions

_PACE_MINUTES = 5
SAMPLE = 24
_PAGE_SIZE = 1_000
HOW = "How to compare with the source"
Sample = Annotated[
    int,
    typer.Option("--sample", help=f"parts to compare (default: {SAMPLE})", metavar="N", min=1, rich_help_panel=HOW),
]
Everything = Annotated[bool, typer.Option("--all", help="compare every part", rich_help_panel=HOW)]
Seed = Annotated[int, typer.Option("--seed", help="seed of the sample (default: 0)", metavar="N", rich_help_panel=HOW)]
ByFilter = Annotated[
    bool, typer.Option("--by-filter", help="also read each part by the values of a filter", rich_help_panel=HOW)
]
Repair = Annotated[bool, typer.Option("--repair", help="record missing events as gaps", rich_help_panel=HOW)]


@dataclass(frozen=True, slots=True)
class How:
    """How to compare: how many parts (None for all), which, how else to read them, and whether to make gaps."""

    sample: int | None
    seed: int
    by_filter: bool
    repair: bool


def compare_accounts(shell: Shell, settings: Settings, data: str | None, how: How, *, json: bool) -> int:
    """Compare the export of each account with the source, and show what differs."""
    place = open_data_location(settings, data)
    sinks = remembered(shell, settings, place).sinks
    assembly = compose_runs(
        settings, environ=shell.environ, clock=shell.clock, hide=shell.terminal.redaction.hide, needs_sink=False
    )
    answers, codes = [], [ExitCode.OK]
    with accounts_of(assembly) as accounts:
        for account in accounts:
            try:
                answer = _verified(shell, choose(assembly, account), account, how, place=place, sinks=sinks)
            except CfauditError as error:
                shell.terminal.fail(of_account(account, error))
                codes.append(error.exit_code)
            else:
                answers.append(answer)
                codes.append(ExitCode.INCOMPLETE if answer["differences"] else ExitCode.OK)
    if json:
        shell.terminal.answer(as_json(answers))
    else:
        for answer in answers:
            _show(shell, answer)
    return worst(codes)


def _verified(
    shell: Shell, assembly: Assembly, account: str, how: How, *, place: Location, sinks: Sequence[str]
) -> dict[str, Any]:
    """Compare one account."""
    from cfaudit_export.analysis.files.database import open_data
    from cfaudit_export.app.verify import Exported, RereadOptions, compare, page_rows_of, parts_of, repaired, sample

    with ExitStack() as stack:
        source, connection = stack.enter_context(connected(assembly, account))
        if not hasattr(source, "recount"):
            raise SettingsError(f"source '{assembly.source_name}' has no second way to read, so it cannot verify")
        stream = assembly.stream(connection.account_id)
        if how.repair:  # what a run delivers meanwhile would be delivered again
            stack.enter_context(assembly.store.hold(stream.id))
        ledger = Ledger(assembly.store, stream)
        require_identity(ledger.checkpoint, assembly.identity)
        sink = _sink(ledger.checkpoint, sinks)
        windows = _windows(assembly, ledger.checkpoint, sink)
        period = Window(windows[0].since, windows[-1].before) if windows else None
        opened = stack.enter_context(open_data(place, period, [stream.account_id]))
        exported = Exported(opened, stream.account_id)
        parts = parts_of(windows, exported.hours(period) if period else {})
        chosen = parts if how.sample is None else sample(parts, how.sample, how.seed)
        page_rows = page_rows_of(getattr(assembly.source[1], "page_size", _PAGE_SIZE))
        settings = replace(assembly.settings, sink=(sink,) if sink else ())
        transforms = transforms_of(settings, assembly.plugins).upon(sink or "")
        reading = RereadOptions(
            source, stream, connection, transforms, assembly.identity, page_rows, by_filter=how.by_filter
        )
        _say_cost(shell, assembly, reading, parts, chosen)
        compared = [compare(part, reading, exported) for part in chosen]
        if how.repair and sink is not None:
            ledger.write(repaired(compared, exported, sink, shell.clock()), shell.clock())
    return {
        "stream": stream,
        "parts": len(parts),
        "compared": [one.part.window for one in compared],
        "source_rows": sum(one.source_rows for one in compared),
        "export_rows": sum(one.part.rows for one in compared),
        "calls": sum(one.calls for one in compared),
        "differences": [difference for one in compared for difference in one.differences],
        "repaired": how.repair,
    }


def _sink(checkpoint: Checkpoint, named: Sequence[str]) -> str | None:
    """Return the sink whose files are compared; None where nothing is remembered of the account.

    Raises:
        UsageError: there are several, and none is named.
    """
    found = [name for name in checkpoint.sinks if not named or name in named]
    if len(found) > 1:
        raise UsageError(f"say which sink wrote the files, as in --sink {found[0]}; there are {', '.join(found)}")
    return found[0] if found else None


def _windows(assembly: Assembly, checkpoint: Checkpoint, sink: str | None) -> tuple[Window, ...]:
    """Return the time in which the export ought to have everything.

    Raises:
        UsageError: nothing is remembered, and no time is given.
    """
    from cfaudit_export.app.verify import verifiable

    settings, now = assembly.settings, floor_ms(assembly.clock())
    since = floor_ms(settings.since) if settings.since else EPOCH
    until = floor_ms(settings.until) if settings.until else now
    if since >= until:
        raise UsageError(f"--since must be earlier than --until, but {iso(since)} is not earlier than {iso(until)}")
    period = Window(since, until)
    if sink is not None:
        return verifiable(checkpoint, sink, period)
    if settings.since is None or settings.until is None:
        raise UsageError(
            "no checkpoint says what was exported; name the state folder with --state-dir, or the time with --since "
            "and --until"
        )
    return (period,)


def _say_cost(
    shell: Shell,
    assembly: Assembly,
    reading: RereadOptions,
    parts: Sequence[ComparedWindow],
    chosen: Sequence[ComparedWindow],
) -> None:
    """Say what is compared, and what it costs."""
    calls = reading.calls_for(chosen) * reading.connection.calls_per_page
    budget = getattr(assembly.source[1], "budget_calls", 0)
    minutes = _PACE_MINUTES * ((calls - 1) // budget) if budget and calls else 0
    shell.terminal.say(
        f"comparing {len(chosen)} of {len(parts)} parts, {sum(part.rows for part in chosen):,} exported events: "
        f"about {counted(calls, 'call')} upstream, budget {budget or 'unlimited'} in {_PACE_MINUTES} minutes, "
        f"waiting about {counted(minutes, 'minute')}"
    )


def _show(shell: Shell, answer: Mapping[str, Any]) -> None:
    """Show the differences of an account, then one line that sums them up."""
    terminal, differences = shell.terminal, answer["differences"]
    if differences:
        rows = [(one.what, iso(one.event_time), one.event_key or f"until {iso(one.before)}") for one in differences]
        terminal.table(("what", "time", "event_key"), rows)
    by_what = Counter(one.what for one in differences)
    said = ", ".join(f"{count:,} {what}" for what, count in sorted(by_what.items())) or "equal"
    more = "; what is missing are gaps now, read by: cfaudit-export gaps --retry" if answer["repaired"] else ""
    terminal.answer(
        f"account {answer['stream'].account_id}: {said}; {answer['source_rows']:,} events in the source, "
        f"{answer['export_rows']:,} in the export, in {len(answer['compared'])} of {answer['parts']} parts"
        f"{more if by_what['missing'] else ''}"
    )
