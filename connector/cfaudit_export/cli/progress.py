"""The progress bar of a run: share of the time covered, events, rate, calls left; nothing where stderr is no terminal.

All of it fits into 80 columns: what is cut off is always the right end, where the calls left and the time are.
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cfaudit_export.app.compose import RunListeners
from cfaudit_export.cli.terminal import Terminal
from cfaudit_export.core.escape import escaped

if TYPE_CHECKING:
    from rich.progress import Progress

    from cfaudit_export.pipeline.run_context import RunProgress


_TITLE = 12


def progress_bar(terminal: Terminal, title: str) -> AbstractContextManager[RunListeners]:
    """Return the context of a single bar; see `ProgressBars`."""
    return ProgressBars(terminal).follow(title)


class ProgressBars:
    """One bar for each run that is going on; runs may be in threads of their own."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal
        self._turn = threading.Lock()
        self._bars: Progress | None = None
        self._shown = 0

    @contextmanager
    def follow(self, title: str) -> Iterator[RunListeners]:
        """Yield what a run reports to; its bar is there while the context lasts."""
        if not self._terminal.is_interactive:
            yield RunListeners()
            return
        with self._turn:
            bars = self._bars = self._bars or _started()
            self._shown += 1
            task = bars.add_task(escaped(title, _TITLE), total=1.0, facts="connecting")
        counted: dict[str, Any] = {}

        def counters(facts: dict[str, Any]) -> None:
            if facts.get("waiting") != counted.get("waiting"):
                counted["waits_since"] = time.monotonic()
            counted.update(facts)
            elapsed = next((one.elapsed for one in bars.tasks if one.id == task), None)
            bars.update(task, facts=_Facts(dict(counted), elapsed or 0.0))

        def progress(now: RunProgress) -> None:
            bars.update(task, completed=now.covered_share)

        try:
            yield RunListeners(counters, progress)
        finally:
            with self._turn:
                self._shown -= 1
                if self._shown:
                    bars.remove_task(task)
                else:
                    bars.stop()
                    self._bars = None


def _started() -> Progress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[facts]}", markup=False),  # made a text anew each time that the bar is drawn
        TimeElapsedColumn(),
    )
    bars = Progress(*columns, console=Console(stderr=True), transient=True)
    bars.start()
    return bars


@dataclass(frozen=True, slots=True)
class _Facts:
    """What a bar says beside the share, as a text of this moment: a wait is counted down."""

    counted: dict[str, Any]
    elapsed_seconds: float

    def __str__(self) -> str:
        return _facts(self.counted, self.elapsed_seconds, time.monotonic())

    def __format__(self, _spec: str) -> str:
        return str(self)


def _counted_down(waiting: str, since: float, now: float) -> str:
    """Return the reason of a wait with the seconds that are left of it."""
    found = re.fullmatch(r"(.+), (\d+) s", waiting)
    return f"{found[1]}, {max(int(found[2]) - int(now - since), 0)} s" if found else waiting


def _facts(counted: dict[str, Any], elapsed_seconds: float, now: float) -> str:
    events, waiting, parts = int(counted.get("events") or 0), counted.get("waiting"), []
    if waiting:
        waiting = _counted_down(str(waiting), counted.get("waits_since", now), now)
    if not waiting:  # which leaves no room for it, and stands still meanwhile
        parts.append(f"{events:,} events")
        if elapsed_seconds > 0 and events:
            parts.append(f"{events / elapsed_seconds:,.0f}/s")
    if counted.get("calls_left") is not None:
        parts.append(f"{counted['calls_left']:,} calls left")
    if waiting:
        parts.append(f"waiting: {escaped(str(waiting), 40)}")
    return ", ".join(parts)
