"""Measure whole processes: wall clock, CPU of the process itself, peak memory. Ratios are made in one run, in turns."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Cost:
    """What a process took: seconds by the clock, seconds of CPU, megabytes at the peak."""

    wall: float
    cpu: float
    peak_mb: float


def run(command: Sequence[str], *, env: dict[str, str] | None = None, ok: Sequence[int] = (0,)) -> Cost:
    """Run a command to its end and return what it took.

    Raises:
        RuntimeError: it ended with another exit code than `ok`.
    """
    started = time.perf_counter()
    process = subprocess.Popen(command, env={**os.environ, **(env or {})}, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    wall = time.perf_counter() - started
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in ok:
        raise RuntimeError(f"{command} ended with {process.returncode}")
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def in_turns(times: int, **runs: object) -> dict[str, Cost]:
    """Run each once in every round and return the medians, so that a machine that drifts drifts for all."""
    costs: dict[str, list[Cost]] = {name: [] for name in runs}
    for _ in range(times):
        for name, once in runs.items():
            costs[name].append(once())  # type: ignore[operator]  # each is a function that returns a cost
    return {
        name: Cost(*(statistics.median(getattr(cost, field) for cost in some) for field in ("wall", "cpu", "peak_mb")))
        for name, some in costs.items()
    }


@contextmanager
def sandbox(*options: str) -> Iterator[tuple[str, str]]:
    """Serve a sandbox in a process of its own; yield its URL and a token of one account."""
    command = [sys.executable, str(Path(__file__).with_name("serve.py")), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url, token = process.stdout.readline().split()
        yield url, token
    finally:
        process.terminate()
        process.wait(30)


def turn(url: str, **knobs: float) -> None:
    """Change options of a sandbox that is serving."""
    control = f"{url.removesuffix('/mcp')}/sandbox/knobs"
    request = urllib.request.Request(control, json.dumps(knobs).encode())  # noqa: S310  # it is our own
    with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310  # likewise
        assert json.load(answer) == {"ok": True}


def show(title: str, costs: dict[str, Cost]) -> None:
    """Print a table of costs."""
    print(f"\n{title}")
    for name, cost in costs.items():
        print(f"  {name:<28} wall {cost.wall:7.2f} s   cpu {cost.cpu:7.2f} s   peak {cost.peak_mb:6.0f} MB")


def verdict(goal: str, value: float, bound: float, *, at_most: bool = True) -> bool:
    """Print a ratio beside its goal; return whether it is met."""
    met = value <= bound if at_most else value >= bound
    print(f"  {'met ' if met else 'MISS'} {goal}: {value:.2f} (goal {'<=' if at_most else '>='} {bound})")
    return met
