"""Runs of the pipeline in this process: the real source over HTTP against a sandbox, real files, a clock to turn."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export import Batch, Receipt, Rejected, Sink, SinkError, Stream, Window, read_batch
from cfaudit_export.auth.token import TokenCredential
from cfaudit_export.core.model import Checkpoint, RunReport
from cfaudit_export.pipeline.request import RunRequest
from cfaudit_export.pipeline.run import run_stream
from cfaudit_export.pipeline.run_context import RunContext
from cfaudit_export.pipeline.slices import LockWait, run_slice
from cfaudit_export.plugin.records import Recover, SourceContext
from cfaudit_export.sources.auditlogs import AuditLogsConfig
from cfaudit_export.sources.auditlogs.source import AuditLogsSource
from cfaudit_export.stores.file import FileStore
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink
from cfaudit_sandbox import Sandbox, SandboxOptions, World

END = datetime(2026, 11, 20, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)


@dataclass
class Shelf:
    """A sink that keeps batches in memory, and can be told to fail."""

    batches: dict[str, pa.Table] = field(default_factory=dict)
    refused: dict[str, tuple[Rejected, ...]] = field(default_factory=dict)
    error: Exception | None = None
    refuse: Callable[[dict[str, Any]], str | None] = lambda _event: None
    loads: int = 0
    closed: bool = False

    def check(self) -> str:
        return "ready"

    def load(self, batch: Batch) -> Receipt:
        self.loads += 1
        if self.error:
            raise self.error
        already = batch.batch_id in self.batches
        if not already:
            events = read_batch(batch)
            words = {event["event_id"]: self.refuse(event) for event in events.to_pylist()}
            rejected = tuple(Rejected(event_id, why) for event_id, why in words.items() if why)
            self.refused[batch.batch_id] = rejected
            self.batches[batch.batch_id] = events.filter(pa.array([not why for why in words.values()]))
        return self._receipt(batch.batch_id, already=already)

    def find(self, batch_id: str, window: Window) -> Receipt | None:
        if self.error:
            raise self.error
        return self._receipt(batch_id, already=True) if batch_id in self.batches else None

    def close(self) -> None:
        self.closed = True

    def texts(self) -> Counter[str]:
        return Counter(text for table in self.batches.values() for text in table["event_raw"].to_pylist())

    def ids(self) -> list[str]:
        return sorted(one for table in self.batches.values() for one in table["event_id"].to_pylist())

    def _receipt(self, batch_id: str, *, already: bool) -> Receipt:
        rejected = self.refused[batch_id]
        return Receipt(batch_id, self.batches[batch_id].num_rows, ("memory",), already, rejected)


@dataclass
class Rig:
    """A sandbox, a place to keep state, and the time."""

    sandbox: Sandbox
    root: Path
    now: datetime
    ahead: timedelta = timedelta()  # of the machine's clock
    reports: list[RunReport] = field(default_factory=list)

    @property
    def world(self) -> World:
        return self.sandbox.world

    @property
    def stream(self) -> Stream:
        return Stream(self.world.accounts[0].id, "auditlogs")

    @property
    def store(self) -> FileStore:
        return FileStore(self.root / "checkpoints")

    @property
    def staging(self) -> Path:
        return self.root / "staging"

    def parquet(self, name: str = "out") -> ParquetSink:
        return ParquetSink(ParquetConfig(str(self.root / name)))

    def run(
        self,
        sinks: Mapping[str, Sink] | None = None,
        config: Mapping[str, Any] | None = None,
        part: Window | None = None,
        recover: Literal["auto", "off", "all"] = "off",
        token: str = "account",
        max_wait: float | None = None,
        **job: Any,
    ) -> RunReport:
        """Run once; `part` runs a slice of the stream."""
        context = SourceContext(
            self.stream,
            TokenCredential(self.world.tokens[token]),
            lambda: self.now + self.ahead,
            recover=Recover(recover),
            max_wait_seconds=max_wait,
        )
        settings = {"budget_calls": 0, "server_url": self.sandbox.mcp_url, "retry_seconds": 5.0, **(config or {})}
        with closing(AuditLogsSource(AuditLogsConfig(**settings), context)) as source:
            connection = source.connect()
            store = job.pop("store", self.store)
            asked = {"settle_lag": timedelta(0), **({"since": part.since, "until": part.before} if part else {})}
            asked |= {name: job.pop(name) for name in job.keys() & {one.name for one in fields(RunRequest)}}
            done = RunContext(
                stream=replace(self.stream, slice=part),
                connection=connection,
                source=source,
                sinks={"parquet": self.parquet()} if sinks is None else sinks,
                store=store,
                staging=self.staging,
                clock=lambda: self.now + self.ahead,
                request=RunRequest(**asked),
                **job,
            )
            report = run_slice(done, LockWait(0)) if part else run_stream(done)
        self.reports.append(report)
        return report

    def checkpoint(self) -> Checkpoint:
        found = self.store.load(self.stream.id)
        assert found
        return found.checkpoint

    def truth(self) -> Counter[str]:
        return Counter(map(text_of, self.world.rows(self.stream.account_id)))

    def grow(self, events: int, since: datetime, before: datetime) -> None:
        self.world.grow(self.stream.account_id, events, since, before)

    def rows(self, name: str = "out") -> list[dict[str, Any]]:
        files = sorted((self.root / name).rglob("*.parquet"))
        return [row for path in files for row in pq.read_table(path, partitioning=None).to_pylist()]

    def assert_everything_once(self, name: str = "out") -> None:
        rows = self.rows(name)
        assert Counter(row["event_raw"] for row in rows) == self.truth()
        assert len({row["event_id"] for row in rows}) == len(rows)

    def staged(self) -> list[str]:
        return sorted(path.name for path in self.staging.rglob("*") if path.is_file())


def text_of(row: dict[str, Any]) -> str:
    # A lone surrogate travels as its escape.
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace").decode()


@contextmanager
def rigged(root: Path, **options: Any) -> Iterator[Rig]:
    box: list[Rig] = []
    given = {"end_at": END, "events": 600, "span_seconds": 86_400.0, "ties": 0.2, "twins": 0.1, **options}

    def clock() -> float:
        return (box[0].now if box else END).timestamp()

    world = World(SandboxOptions(**given), clock=clock)
    with Sandbox(world) as sandbox:
        box.append(Rig(sandbox, root, END))
        yield box[0]


@pytest.fixture
def rig_of(tmp_path: Path) -> Iterator[Callable[..., Rig]]:
    """Make the rig of a world with these options."""
    with ExitStack() as stack:
        yield lambda **options: stack.enter_context(rigged(tmp_path, **options))


@pytest.fixture
def rig(rig_of: Callable[..., Rig]) -> Rig:
    """A rig with 600 events of one day."""
    return rig_of()


@pytest.fixture
def shelf() -> Callable[..., Shelf]:
    """Make a sink in memory."""
    return Shelf


@pytest.fixture
def down() -> SinkError:
    return SinkError("out of order")


@pytest.fixture(scope="session")
def rig_in() -> Callable[..., Any]:
    """Make a rig for one example of a property."""
    return rigged
