"""The progress bar of a run: share of the time covered, events, rate, calls left; nothing where stderr is no terminal.

All of it fits into 80 columns: what is cut off is always the right end, where the calls left and the time are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from cfaudit_export.app.compose import RunListeners
from cfaudit_export.cli.terminal import Terminal
from cfaudit_export.core.escape import escaped

if TYPE_CHECKING:
    from cfaudit_export.pipeline.run_context import RunProgress


_TITLE = 12


@contextmanager
def progress_bar(terminal: Terminal, title: str) -> Iterator[RunListeners]:
    """Yield what a run reports to; the bar is there while the context lasts."""
    if not terminal.is_interactive:
        yield RunListeners()
        return
    from rich.console import Console
    from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bar

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[facts]}", markup=False),
        TimeElapsedColumn(),
    )
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(escaped(title, _TITLE), total=1.0, facts="connecting")
        counted: dict[str, Any] = {}

        def counters(facts: dict[str, Any]) -> None:
            counted.update(facts)
            elapsed = bar.tasks[0].elapsed or 0.0
            bar.update(task, facts=_facts(counted, elapsed))

        def progress(now: RunProgress) -> None:
            bar.update(task, completed=now.covered_share)

        yield RunListeners(counters, progress)


def _facts(counted: dict[str, Any], elapsed_seconds: float) -> str:
    events, waiting, parts = int(counted.get("events") or 0), counted.get("waiting"), []
    if not waiting:  # which leaves no room for it, and stands still meanwhile
        parts.append(f"{events:,} events")
        if elapsed_seconds > 0 and events:
            parts.append(f"{events / elapsed_seconds:,.0f}/s")
    if counted.get("calls_left") is not None:
        parts.append(f"{counted['calls_left']:,} calls left")
    if waiting:
        parts.append(f"waiting: {escaped(str(waiting), 40)}")
    return ", ".join(parts)
