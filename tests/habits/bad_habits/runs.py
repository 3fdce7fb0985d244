"""Runs of the real pipeline against a server, in this process, and the one sentence that judges them."""

from __future__ import annotations

import shutil
import signal
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
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
from cfaudit_export.app.compose import Assembly, compose, connected
from cfaudit_export.app.export import export
from cfaudit_export.core.model import Checkpoint, RunReport, Stream, to_ms
from cfaudit_export.plugin.registry import Offer, Plugins, load_plugins
from cfaudit_export.settings import Settings
from cfaudit_export.sources.mcp.budget import CallBudget
from cfaudit_export.stores.file import FileStore

SINCE = NOW - timedelta(days=3)
UNTIL = NOW - timedelta(hours=1)
COLUMNS = ["event_id", "event_key", "event_raw", "event_time", "fidelity", "replaces"]


@dataclass
class Clock:
    """Monotonic seconds that pass only when a call waits; `told` hears of it, as a server that comes back does."""

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
            self.batches[batch.batch_id] = read_batch(batch).select(COLUMNS)
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
        """The rows that stand for events: not shadows of rejected ones, and not what a later row replaces."""
        replaced = set(self.column("replaces"))
        pairs = zip(self.column("event_id"), self.column("event_raw"), strict=True)
        return Counter(raw for name, raw in pairs if raw is not None and name not in replaced)


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
    latecomers: bool = False  # whether each run reads again what was read before, as all but backfills do
    reports: list[RunReport] = field(default_factory=list)

    @property
    def source(self) -> Source:
        return self.server.source

    def run(self, *, only_gaps: bool = False, clock: Callable[[], datetime] = lambda: NOW, **more: Any) -> RunReport:
        """Run once, as `cfaudit-export run` does after it has read its settings; or `gaps --retry`."""
        assembly = self._assembly(more, clock)
        request = replace(assembly.request, only_gaps=only_gaps, latecomers=self.latecomers)
        assembly = replace(assembly, request=request)
        report = export(assembly, ACCOUNT)
        self.reports.append(report)
        return report

    @contextmanager
    def connected(self) -> Iterator[Any]:
        """The source alone, connected."""
        with connected(self._assembly({}), ACCOUNT) as (source, _):
            yield source

    def _assembly(self, more: dict[str, Any], clock: Callable[[], datetime] = lambda: NOW) -> Assembly:
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
            rescan=UNTIL - SINCE,
            **{"since": SINCE, "until": UNTIL, "recover": {"mode": "off"}, **self.settings, **more},
        )
        assembly = compose(settings, self._plugins(), environ={"CLOUDFLARE_API_TOKEN": "cfat_token"}, clock=clock)
        wait = None if settings.max_wait is None else settings.max_wait.total_seconds()
        assembly.shared.values["budget"] = CallBudget(0, wait, now=self.clock.now, sleep=self.clock.sleep)
        return assembly

    def run_to_death(self, how: str, number: int, **more: Any) -> RunReport | None:
        """Run, and die at a call, `before load` or `after load`, if it gets there; None when it died."""
        with dying(self, how, number) as died:
            report = self.run(**more)
        return None if died.is_set() else report

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

    def readable_missing(self) -> Counter[str]:
        """What is missing of the rows that the server does not reject, and that are what a row has to be."""
        odd = [
            text_of(event, self.source)
            for event in self.server.world.events
            if (event.odd and self.source == "auditlogs") or event.said or event.instead
        ]
        return self.missing() - Counter(odd)

    def late(self) -> Counter[str]:
        """What was not there yet when the first call was answered."""
        return Counter(text_of(event, self.source) for event in self.server.world.events if event.from_call)

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


class KilledError(BaseException):
    """The process ends here, as far as the program can tell."""


@contextmanager
def dying(one: Machine, how: str, number: int) -> Iterator[threading.Event]:
    """Raise `KilledError` in the main thread at a moment of a run; the event says whether it came to that."""
    died, armed, first_call, first_load = threading.Event(), True, one.server.calls, one.sink.loads

    def die(*_: Any) -> None:
        if armed and not died.is_set():
            died.set()
            raise KilledError

    def on_call(at: int) -> None:
        if how == "call" and at - first_call == number:
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def on_load(at: int, when: str) -> None:
        if how == f"{when} load" and at - first_load == number:
            die()

    before = signal.signal(signal.SIGUSR1, die)
    one.server.on_call, one.sink.on_load = on_call, on_load
    try:
        yield died
    except KilledError:
        died.set()
    finally:
        armed = False
        one.server.on_call, one.sink.on_load = lambda _at: None, lambda _at, _when: None
        signal.signal(signal.SIGUSR1, before)


# -- the oracle ---------------------------------------------------------------------------------------


def most_calls(world: World, page_size: int, workers: int, *, faults: int = 0, recovers: bool = False) -> int:
    """Calls that a run may take at most: some for every page, for every rejected row, and for every fault.

    Rebuilding columns takes some forty calls for each page and each piece.
    """
    pages = len(world.events) // min(page_size, world.cap) + 1
    plain = 60 + 8 * workers + 8 * pages + 40 * world.odd + 12 * faults
    return plain * 40 if recovers else plain


def judge(one: Machine, report: RunReport, *, has_late: bool = False) -> None:
    """Check the sentence for one run; latecomers may be missing unless the run `has_late`.

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
    missing = one.missing() if has_late else one.missing() - one.late()
    if report.exit_code == ExitCode.OK:
        assert not missing, f"exit 0, and {missing.total()} of {len(one.server.world.events)} rows are missing"
    if report.exit_code == ExitCode.INCOMPLETE:
        outside = missing - _in_gaps(one, report)
        assert not outside, f"exit 65, and {outside.total()} missing rows lie in no gap: {_some(outside)}"


def judge_healed(one: Machine) -> None:
    """Check that later runs against the healed server end with everything once; rejected rows stay gaps."""
    one.server.heal()
    one.server.let_all_arrive()
    for _ in range(3):
        report = one.run()
        judge(one, report, has_late=True)
        assert report.exit_code in (ExitCode.OK, ExitCode.INCOMPLETE), f"healed, and {report.error}"
        if report.gaps:
            judge(one, one.run(only_gaps=True), has_late=True)
        if not one.readable_missing():
            return
    missing = one.readable_missing()
    raise AssertionError(f"healed, and {missing.total()} readable rows never came: {_some(missing)}")


def _in_gaps(one: Machine, report: RunReport) -> Counter[str]:
    spans = [(to_ms(gap.window.since), to_ms(gap.window.before)) for gap in report.gaps]
    return Counter(
        text_of(event, one.source)
        for event in one.server.world.events
        if any(since <= event.at_ms < before for since, before in spans)
    )


def _some(rows: Counter[str]) -> str:
    return "; ".join(list(rows)[:3])
