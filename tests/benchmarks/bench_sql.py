"""A question about one day against a directory of a year, and reports over the same, as whole processes.

    python tests/benchmarks/bench_sql.py [--events 5000000] [--runs 24] [--rounds 5] [--keep FOLDER]

The year is written by the Parquet sink, as `--runs` exports would have left it: so many files a day. It is asked twice:
as it is, and after `compact` has made one file of every day. Prints wall, CPU and peak memory; the answer is compared
with that of the one file it must come from. Nothing here fails a test: the numbers go into commit messages.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from datetime import UTC, datetime
from pathlib import Path

from measure import Cost, in_turns, run, show, verdict

ME = [sys.executable, str(Path(__file__))]
CLI = [sys.executable, "-m", "cfaudit_export"]
DAYS = 365
FIRST = datetime(2025, 11, 1, tzinfo=UTC)
DAY = "2026-03-01"
ONE_DAY = f"event_time >= '{DAY}' AND event_time < TIMESTAMPTZ '{DAY}' + INTERVAL 1 DAY"
ASKED = "SELECT actor_email, count(*) AS events FROM {source} WHERE {where} GROUP BY ALL ORDER BY ALL"


def write_year(folder: Path, events: int, runs: int) -> None:
    import pyarrow as pa

    from cfaudit_export.testing import make_batch
    from cfaudit_parquet import ParquetConfig
    from cfaudit_parquet.sink import ParquetSink

    sink = ParquetSink(ParquetConfig(str(folder)))
    rows = events // runs
    first, step = int(FIRST.timestamp() * 1000), DAYS * 86_400_000 / rows
    for seed in range(runs):
        times = pa.array([first + int((row + seed / runs) * step) for row in range(rows)], pa.timestamp("ms", "UTC"))
        with tempfile.TemporaryDirectory() as staged:
            sink.load(make_batch(Path(staged), rows=rows, seed=seed, days=DAYS, changes={"event_time": times}))


def question(folder: Path) -> list[str]:
    query = ASKED.format(source="audit_events", where=ONE_DAY)
    return [*CLI, "sql", "--data", str(folder), "--state-dir", str(folder / "none"), "--format", "json", query]


def report(folder: Path, since: str) -> list[str]:
    period = ("--since", since, "--until", DAY)
    return [*CLI, "report", "--data", str(folder), "--state-dir", str(folder / "none"), *period, "--json"]


def right_answer(folder: Path) -> list[dict[str, object]]:
    """Return what DuckDB makes of the files of the day and its neighbours, without any of our code."""
    import duckdb

    files = [str(path) for path in folder.glob(f"*/event_date={DAY}/*.parquet")]
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        source = f"read_parquet({files!r}, hive_partitioning = false)"
        found = connection.sql(ASKED.format(source=source, where="TRUE")).fetchall()
    return [{"actor_email": actor, "events": events} for actor, events in found]


def measure(folder: Path, rounds: int, title: str) -> dict[str, Cost]:
    answer = subprocess.run(question(folder), capture_output=True, check=True).stdout
    assert json.loads(answer) == right_answer(folder), "the answer is wrong"
    costs = in_turns(
        rounds,
        start=lambda: run([*CLI, "schema"]),
        one_day=lambda: run(question(folder)),
        report_week=lambda: run(report(folder, "2026-02-22")),
        report_quarter=lambda: run(report(folder, "2025-12-01")),
    )
    files = list(folder.rglob("*.parquet"))
    size_mb = sum(path.stat().st_size for path in files) / 1e6
    show(f"{title}: {len(files):,} files, {size_mb:,.0f} MB", costs)
    verdict("seconds of CPU for a question about one day", costs["one_day"].cpu, 1.0)
    verdict("seconds by the clock", costs["one_day"].wall, 1.0)
    return costs


def compare(folder: Path, options: argparse.Namespace) -> None:
    if not any(folder.iterdir()):
        run([*ME, "--child", str(folder), str(options.events), str(options.runs)])
    before = measure(folder, options.rounds, f"{options.events:,} events of a year, {options.runs} files a day")
    cost = run([*CLI, "compact", "--data", str(folder), "--json"])
    show("compact", {"all of it": cost})
    print(f"  rows per second of CPU: {options.events / cost.cpu:,.0f}")
    after = measure(folder, options.rounds, "the same, a file a day")
    print(f"  one day, before against after: {before['one_day'].cpu / after['one_day'].cpu:.1f} times the CPU")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=5_000_000)
    parser.add_argument("--runs", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--keep", type=Path, help="folder for the data; what is there is used again")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        folder, events, runs = options.child
        write_year(Path(folder), int(events), int(runs))
    elif options.keep:
        options.keep.mkdir(parents=True, exist_ok=True)
        compare(options.keep, options)
    else:
        with tempfile.TemporaryDirectory(prefix="cfaudit-bench-") as folder:
            compare(Path(folder), options)


if __name__ == "__main__":
    main()
