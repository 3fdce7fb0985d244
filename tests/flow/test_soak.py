"""A week of cron: a run every five minutes, through throttling, failing servers and sinks, late events and kills."""

from __future__ import annotations

import gc
import importlib.util
import json
import logging
import os
import random
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest

from cfaudit_export.plugin.registry import Plugins, load_plugins
from cfaudit_export.stores.document import decode
from cfaudit_sandbox import Sandbox, SandboxOptions, World

START = datetime(2026, 3, 26, tzinfo=UTC)  # in the week that follows, Europe changes its clocks
EVERY = timedelta(minutes=5)
RUNS = Path(__file__).with_name("soaking_runs.py")
LARGEST_STATE_BYTES = 1 << 20


@pytest.fixture(scope="module")
def runs() -> ModuleType:
    spec = importlib.util.spec_from_file_location("soaking_runs", RUNS)
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look for their module there
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def children() -> Iterator[Callable[[dict[str, Any]], int]]:
    """Run an order in a process of its own."""
    program = [sys.executable, str(RUNS)]
    with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:

        def run(order: dict[str, Any]) -> int:
            assert server.stdin
            assert server.stdout
            server.stdin.write(json.dumps(order) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield run


@dataclass
class Week:
    """The runs of a week, or of its first hours, and what became of them."""

    sandbox: Sandbox
    root: Path
    runs: ModuleType
    child: Callable[[dict[str, Any]], int]
    dice: random.Random
    now: datetime = START
    plugins: Plugins = field(default_factory=load_plugins)
    ends: Counter[str] = field(default_factory=Counter)
    largest_state: int = 0

    @property
    def account(self) -> str:
        return self.sandbox.world.accounts[0].id

    def run(self, *, faults: float, child: bool = False, seconds: float | None = None) -> int | None:
        """Run once, five minutes after the last time; None when it was cut off."""
        order = {
            "root": str(self.root),
            "url": self.sandbox.mcp_url,
            "token": self.sandbox.world.tokens["account"],
            "account": self.account,
            "since": START.isoformat(),
            "now": self.now.isoformat(),
            "seed": self.dice.getrandbits(32),
            "faults": faults,
            "seconds": seconds,
        }
        code: int | None
        try:
            code = self.child(order) if child else self.runs.run(order, self.plugins)
        except self.runs.CutOffError:
            code = None
        names = {None: "cut off", 1: "cut off", self.runs.KILLED: "killed"}
        self.ends[names.get(code, str(code))] += 1
        self.largest_state = max([self.largest_state, *(path.stat().st_size for path in self.checkpoints())])
        return code

    def weather(self) -> None:
        """Turn the knobs of the server by chance."""
        chance = self.dice.random()
        calls = self.dice.randrange(2, 40) if chance < 0.10 else None
        fails = self.dice.choice((0.02, 0.1, 0.5)) if 0.10 <= chance < 0.20 else 0.0
        drops = 0.1 if 0.20 <= chance < 0.25 else 0.0
        self.sandbox.world.turn(throttle_calls=calls, fail_rate=fails, drop_rate=drops)
        if 0.25 <= chance < 0.28:
            self.sandbox.upstream.fail_next(503, where="edge", times=self.dice.randrange(1, 6))

    def checkpoints(self) -> list[Path]:
        return list((self.root / "state" / "checkpoints").glob("*.json"))

    def left_behind(self) -> list[str]:
        """Files of the state that only a run in progress may have."""
        kept = {*self.checkpoints(), *(self.root / "state" / "checkpoints").glob("*.lock")}
        return sorted(str(path) for path in (self.root / "state").rglob("*") if path.is_file() and path not in kept)

    def assert_exact(self, sink: str) -> None:
        files = sorted((self.root / sink).rglob("*.parquet"))
        texts: Counter[str] = Counter()
        ids: list[str] = []
        for path in files:
            table = pq.read_table(path, columns=["event_raw", "event_id"], partitioning=None)
            texts.update(table["event_raw"].to_pylist())
            ids += table["event_id"].to_pylist()
        wanted = self.sandbox.world.rows(self.account, visible=True)
        assert texts == Counter(map(text_of, wanted))
        assert len(set(ids)) == len(ids)


def text_of(row: dict[str, Any]) -> str:
    # A lone surrogate travels as its escape.
    return json.dumps(row, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace").decode()


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def resident_mib() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / (1 << 20)


@pytest.mark.parametrize(
    ("count", "events"),
    [pytest.param(30, 1_500, id="hours"), pytest.param(2_016, 60_000, id="week", marks=pytest.mark.soak)],
)
def test_after_a_week_of_trouble_every_event_is_there_once_and_nothing_has_piled_up(
    count: int, events: int, tmp_path: Path, runs: ModuleType, children: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.CRITICAL, logger="cfaudit_export")
    box: list[Week] = []
    length = count * EVERY
    options = SandboxOptions(
        events=events,
        end_at=START + length,
        span_seconds=length.total_seconds(),
        late_fraction=0.05,
        late_max_seconds=5 * 3600,
        throttle_seconds=280.0,
        ties=0.05,
        twins=0.02,
    )

    def clock() -> float:
        return (box[0].now if box else START).timestamp()

    world = World(options, clock=clock)
    with Sandbox(world) as sandbox:
        week = Week(sandbox, tmp_path, runs, children, random.Random(7))
        box.append(week)
        week.now += EVERY
        assert week.run(faults=0.0) == 0
        week.run(faults=0.0, child=True, seconds=0.0)
        measured: tuple[int, int, float] | None = None
        for number in range(count):
            week.now += EVERY
            week.weather()
            is_child = week.dice.random() < 0.15
            seconds = week.dice.uniform(0.0, 0.25) if is_child and week.dice.random() < 0.7 else None
            week.run(faults=0.3, child=is_child, seconds=seconds)
            if number == count // 5:
                gc.collect()
                measured = descriptors(), threading.active_count(), resident_mib()
        world.turn(throttle_calls=None, fail_rate=0.0, drop_rate=0.0)
        sandbox.upstream.reset()
        week.now += timedelta(hours=6)
        assert week.run(faults=0.0) == 0
        gc.collect()
        assert measured
        assert descriptors() <= measured[0] + 2
        assert threading.active_count() <= measured[1] + 1
        grown = resident_mib() - measured[2]
        print(dict(week.ends), f"largest state {week.largest_state} bytes, grown by {grown:.1f} MiB")
        assert grown < 64
        for sink in ("parquet", "moody"):
            week.assert_exact(sink)
        assert week.left_behind() == []
        assert week.largest_state < LARGEST_STATE_BYTES
        [path] = week.checkpoints()
        checkpoint = decode(path.read_bytes(), stream_id=path.stem, where=str(path))
        assert checkpoint.gaps == ()
        assert {len(progress.covered) for progress in checkpoint.sinks.values()} == {1}
        assert {"0", "killed"} <= week.ends.keys()
        if count > 1_000:
            assert {"69", "75", "cut off"} <= week.ends.keys()
