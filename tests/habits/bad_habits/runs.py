"""Runs of the real pipeline against a server, in this process, and the one sentence that judges them."""

from __future__ import annotations

import shutil
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from functools import cache
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pyarrow as pa

from bad_habits.faults import Habit
from bad_habits.log import ACCOUNT, NOW, World, text_of
from bad_habits.server import BadServer, Source, serving
from cfaudit_export import Batch, ExitCode, Receipt, SinkPlugin, Window, read_batch
from cfaudit_export.assemble import assemble
from cfaudit_export.export import export
from cfaudit_export.model import Checkpoint, RunReport, Stream, to_ms
from cfaudit_export.plugins import Offer, Plugins, load_plugins
from cfaudit_export.settings import Settings
from cfaudit_export.sources.pace import Pace
from cfaudit_export.stores.file import FileStore

SINCE = NOW - timedelta(days=3)
UNTIL = NOW - timedelta(hours=1)


@dataclass
class Clock:
    """Monotonic seconds that pass only when somebody waits; `told` hears of it, as a server that comes back does."""

    seconds: float = 0.0
    told: Callable[[float], None] = lambda _now: None

    def now(self) -> float:
        return self.seconds

    async def sleep(self, seconds: float) -> None:
        self.seconds += max(seconds, 0.0)
        await anyio.to_thread.run_sync(self.told, self.seconds)
        await anyio.lowlevel.checkpoint()


@dataclass(frozen=True)
class _NoSettings:
    pass


@dataclass
class Memory:
    """A sink that keeps batches by their ids; `on_load` may die `before` or `after` it has one."""

    batches: dict[str, pa.Table] = field(default_factory=dict)
    on_load: Callable[[int, str], None] = lambda _number, _when: None
    loads: int = 0

    def check(self) -> str:
        return "ready"

    def load(self, batch: Batch) -> Receipt:
        number, self.loads = self.loads, self.loads + 1
        self.on_load(number, "before")
        already = batch.batch_id in self.batches
        if not already:
            self.batches[batch.batch_id] = read_batch(batch).select(
                ["event_id", "event_key", "event_raw", "event_time"]
            )
        self.on_load(number, "after")
        return Receipt(batch.batch_id, batch.rows, ("memory",), already)

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        found = self.batches.get(batch_id)
        return None if found is None else Receipt(batch_id, found.num_rows, ("memory",), already=True)

    def close(self) -> None:
        pass

    def column(self, name: str) -> list[Any]:
        return [value for table in self.batches.values() for value in table[name].to_pylist()]

    def texts(self) -> Counter[str]:
        return Counter(self.column("event_raw"))


@cache
def _installed() -> Plugins:
    return load_plugins(environ={})


@dataclass
class Machine:
    """A machine that exports from a server into memory; its state outlives a run."""

    server: BadServer
    root: Path
    sink: Memory = field(default_factory=Memory)
    config: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    clock: Clock = field(default_factory=Clock)
    reports: list[RunReport] = field(default_factory=list)

    @property
    def source(self) -> Source:
        return self.server.source

    def run(self, *, only_gaps: bool = False, **more: Any) -> RunReport:
        """Run once, as `cfaudit-export run` does after it has read its settings; or `gaps --retry`."""
        settings = Settings(
            account=(ACCOUNT,),
            source=self.source,
            sink=("memory",),
            sources={
                self.source: {
                    "server_url": self.server.url,
                    "budget_calls": 0,
                    "retry_seconds": 60.0,
                    "timeout_seconds": 20.0,
                    **self.config,
                }
            },
            state_dir=self.root,
            settle_lag=timedelta(0),
            **{"since": SINCE, "until": UNTIL, "recover": {"mode": "off"}, **self.settings, **more},
        )
        workshop = assemble(
            settings, self._plugins(), environ={"CLOUDFLARE_API_TOKEN": "cfat_token"}, clock=lambda: NOW
        )
        wait = None if settings.max_wait is None else settings.max_wait.total_seconds()
        workshop.shared.values["pace"] = Pace(0, wait, now=self.clock.now, sleep=self.clock.sleep)
        report = export(replace(workshop, only_gaps=only_gaps), ACCOUNT)
        self.reports.append(report)
        return report

    def _plugins(self) -> Plugins:
        record = SinkPlugin("memory", _NoSettings, lambda _config: self.sink, "keeps batches in memory")
        found = _installed()
        offer = Offer("memory", "tests", "0", __name__, record)
        return replace(found, sinks={**found.sinks, "memory": offer})

    def checkpoint(self) -> Checkpoint | None:
        found = FileStore(self.root / "checkpoints").load(Stream(ACCOUNT, self.source, log="auditlogs").id)
        return found.checkpoint if found else None

    def missing(self) -> Counter[str]:
        return self.server.world.texts(self.source) - self.sink.texts()

    def added(self) -> Counter[str]:
        return self.sink.texts() - self.server.world.texts(self.source)


@contextmanager
def machine(world: World, *habits: Habit, source: Source = "auditlogs", **config: Any) -> Iterator[Machine]:
    """A server with habits, and a machine that exports from it. `config` are settings of the source."""
    root = Path(tempfile.mkdtemp(prefix="habits-"))
    try:
        with serving(world, *habits, source=source) as server:
            yield Machine(server, root, config={"concurrency": 2, "page_size": 20, "piece_rows": 40, **config})
    finally:
        shutil.rmtree(root, ignore_errors=True)


# -- the oracle ---------------------------------------------------------------------------------------


def most_calls(world: World, page_size: int, workers: int, faults: int = 0) -> int:
    """Calls that a run may take at most: some for every page, for every rejected row, and for every fault."""
    pages = len(world.events) // min(page_size, world.cap) + 1
    return 60 + 8 * workers + 8 * pages + 40 * world.odd + 12 * faults


def judge(one: Machine, report: RunReport) -> None:
    """Check the sentence for one run.

    Exit 0: the rows are those of the truth. Exit 65: every missing row lies in a listed gap. Anything else is judged
    by what a later run makes of it, in `judge_healed`. Never 70, never a row that does not exist, never one twice.
    """
    said = f"exit {int(report.exit_code)}: {report.error}"
    assert report.exit_code != ExitCode.BUG, said
    assert not one.server.exceeded, f"{one.server.calls} calls, and no end; {said}"
    added = one.added()
    assert not added, f"{added.total()} rows too many, with {said}: {_some(added)}"
    ids = one.sink.column("event_id")
    assert len(set(ids)) == len(ids), f"an event_id stands twice, with {said}"
    missing = one.missing()
    if report.exit_code == ExitCode.OK:
        assert not missing, f"exit 0, and {missing.total()} of {len(one.server.world.events)} rows are missing"
    if report.exit_code == ExitCode.INCOMPLETE:
        outside = missing - _in_gaps(one, report)
        assert not outside, f"exit 65, and {outside.total()} missing rows lie in no gap: {_some(outside)}"


def judge_healed(one: Machine) -> None:
    """Check that later runs against the healed server end with everything once; rejected rows stay gaps."""
    one.server.heal()
    for _ in range(3):
        report = one.run()
        judge(one, report)
        assert report.exit_code in (ExitCode.OK, ExitCode.INCOMPLETE), f"healed, and {report.error}"
        if report.gaps:
            judge(one, one.run(only_gaps=True))
        if not _readable_missing(one):
            return
    missing = _readable_missing(one)
    raise AssertionError(f"healed, and {missing.total()} readable rows never came: {_some(missing)}")


def _readable_missing(one: Machine) -> Counter[str]:
    odd = Counter(text_of(event, one.source) for event in one.server.world.events if event.odd)
    return one.missing() - (odd if one.source == "auditlogs" else Counter())


def _in_gaps(one: Machine, report: RunReport) -> Counter[str]:
    spans = [(to_ms(gap.window.since), to_ms(gap.window.before)) for gap in report.gaps]
    return Counter(
        text_of(event, one.source)
        for event in one.server.world.events
        if any(since <= event.at_ms < before for since, before in spans)
    )


def _some(rows: Counter[str]) -> str:
    return "; ".join(list(rows)[:3])
