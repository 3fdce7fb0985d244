"""The main path against a bare SDK loop over the same pages, in the same run.

    python tests/benchmarks/bench_auditlogs.py [--events 200000] [--rounds 3] [--large 1000000] [--only latency]

Prints wall, CPU and peak memory, and the ratios that the project holds itself to. Nothing here fails a test: the
numbers go into commit messages.

With a server that takes 150 ms for each answer, whole processes that read `--large` events through 1, 8 and 16 windows
are compared, start-up, Parquet files and checkpoints included: the wait for a backfill. So many events that
a second of start-up does not hide what the windows do; the ratios for fewer events are smaller. The server has made its
pages before, as it does on machines of its own in reality: those of one window to the last, those of several up to
where idle workers cut walks up, which is never the same twice. One window is read once, as it takes minutes and is
told by its number of calls anyway; several in turns.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from measure import Cost, in_turns, run, sandbox, show, turn, verdict

SPAN = ("2026-10-01T00:00:00.000Z", "2026-11-01T00:00:00.000Z")
WORLD = ("span_seconds=2678000", "end_at=2026-11-01T00:00:00+00:00")


def exporter(url: str, token: str, out: Path, *extra: str) -> Cost:
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "cfaudit_export", "run", "--sink", "parquet", "--server-url", url]
    command += ["-o", f"sinks.parquet.path={out / 'parquet'}", "--state-dir", str(out / "state")]
    command += [
        "--recover",
        "off",
        "--since",
        SPAN[0],
        "--until",
        SPAN[1],
        "-o",
        "sources.auditlogs.budget_calls=0",
        *extra,
    ]
    return run(command, env={"CLOUDFLARE_API_TOKEN": token})


def bare(url: str, token: str, *out: str) -> Cost:
    return run([sys.executable, str(Path(__file__).with_name("bare_loop.py")), "auditlogs", url, token, *SPAN, *out])


def against_bare_loop(events: int, rounds: int, out: Path) -> Cost:
    with sandbox(f"events={events}", *WORLD) as (url, token):
        bare(url, token)  # the server renders each page once; after that both read prepared pages
        exporter(url, token, out)
        least = str(out / "least.parquet")
        costs = in_turns(
            rounds,
            bare=lambda: bare(url, token),
            least=lambda: bare(url, token, least),
            exporter=lambda: exporter(url, token, out),
        )
    show(f"{events} events, no latency", costs)
    verdict("wall against the bare loop", costs["exporter"].wall / costs["bare"].wall, 1.5)
    verdict("CPU against the bare loop", costs["exporter"].cpu / costs["bare"].cpu, 1.5)
    # What no exporter can do without: the loop, and each row decoded, mapped and written once.
    print(f"       CPU of that with rows written, against the bare loop: {costs['least'].cpu / costs['bare'].cpu:.2f}")
    print(f"       CPU of the exporter against that: {costs['exporter'].cpu / costs['least'].cpu:.2f}")
    verdict("peak memory in MB", costs["exporter"].peak_mb, 256)
    return costs["exporter"]


def memory(large: int, small: Cost, out: Path) -> None:
    with sandbox(f"events={large}", *WORLD) as (url, token):
        cost = exporter(url, token, out)
    show(f"{large} events", {"exporter": cost})
    verdict("peak memory against the smaller export", cost.peak_mb / small.peak_mb, 1.10)


def latency(events: int, rounds: int, out: Path) -> None:
    with sandbox(f"events={events}", *WORLD) as (url, token):

        def through(workers: int) -> Callable[[], Cost]:
            return lambda: exporter(url, token, out, "-o", f"sources.auditlogs.concurrency={workers}")

        for workers in (1, 8, 16):
            through(workers)()
        turn(url, latency_seconds=0.15)
        costs = {"1 window": through(1)()}
        costs |= in_turns(rounds, **{"8 windows": through(8), "16 windows": through(16)})
    show(f"{events} events, 150 ms latency", costs)
    one = costs["1 window"].wall
    verdict("8 windows against one", one / costs["8 windows"].wall, 6, at_most=False)
    verdict("16 windows against one", one / costs["16 windows"].wall, 10, at_most=False)


def start_up() -> None:
    command = [sys.executable, "-m", "cfaudit_export", "--help"]
    cost = in_turns(7, help=lambda: run(command))["help"]
    show("start-up", {"--help": cost})
    verdict("--help in ms", cost.wall * 1000, 150)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large", type=int, default=1_000_000)
    parser.add_argument("--only", choices=["latency"], help="measure nothing else")
    options = parser.parse_args()
    out = Path(tempfile.mkdtemp(prefix="cfaudit-bench-"))
    try:
        if options.only is None:
            start_up()
            small = against_bare_loop(options.events, options.rounds, out)
            memory(options.large, small, out)
        latency(options.large, options.rounds, out)
    finally:
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
