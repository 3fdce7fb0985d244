"""What the benchmarks of sinks share: batches that are staged before, options, and what is said about the costs."""

from __future__ import annotations

import argparse
import json
import pickle
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from measure import Cost, run, show, verdict

if TYPE_CHECKING:
    from cfaudit_export import Batch

ROWS = 50_000  # of a batch, which is about what a run stages at a time


def begin(doc: str | None, compare: Callable[[Path, argparse.Namespace], None], **jobs: Callable[..., None]) -> None:
    """Read the options of a benchmark and compare; or do the one of its jobs that `in_child` has asked for."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=["six-field", "whole"], default="six-field")
    parser.add_argument("--job", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.job:
        name, words = options.job
        jobs[name](*json.loads(words))
        return
    with tempfile.TemporaryDirectory(prefix="cfaudit-bench-") as folder:
        compare(Path(folder), options)


def in_child(script: str, job: str, *words: object) -> Cost:
    """Have a process of its own do a job, and return what it took; paths arrive as texts."""
    return run([sys.executable, script, "--job", job, json.dumps(words, default=str)])


def stage(folder: str, shape: Any, events: int) -> None:
    """Stage batches, and write down where."""
    from cfaudit_export.testing import make_batch

    batches = [make_batch(Path(folder), rows=ROWS, seed=seed, shape=shape) for seed in range(events // ROWS)]
    Path(folder, "batches").write_bytes(pickle.dumps(batches))


def staged(folder: str, events: int) -> Sequence[Batch]:
    """Return the first staged batches."""
    batches: list[Batch] = pickle.loads(Path(folder, "batches").read_bytes())  # noqa: S301 - written above
    return batches[: events // ROWS]


def tell(title: str, options: argparse.Namespace, costs: dict[str, Cost]) -> None:
    """Print what the costs `bare`, `sink` and `small` say: rates, ratios, and whether memory stays flat."""
    show(title, costs)
    bare, sink, small = costs["bare"], costs["sink"], costs["small"]
    print(f"  events per second: sink {options.events / sink.wall:,.0f}, bare call {options.events / bare.wall:,.0f}")
    print(f"  sink against the bare call: wall {sink.wall / bare.wall:.2f}, CPU {sink.cpu / bare.cpu:.2f}")
    verdict(f"peak memory against {options.small} events", sink.peak_mb / small.peak_mb, 1.20)
    verdict("peak memory in MB", sink.peak_mb, 256)
