"""`findings` over an archive of generated events, as a whole process; and what of it is not reading.

    python tests/benchmarks/bench_findings.py [--days 500] [--per-day 2000] [--keep FOLDER]

The archive has one file a day. It is asked about its last week, which takes the 90 days before into account, and about
all of it at once. Nothing here fails a test: the numbers go into commit messages and into docs/findings.md.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from datetime import timedelta
from pathlib import Path

from measure import run

sys.path.insert(0, str(Path(__file__).parents[1] / "analysis" / "rules"))

from planted.files import write_rows
from planted.world import END, ordinary_rows

CLI = [sys.executable, "-m", "cfaudit_export", "findings", "--json", "--time-zone", "Europe/Berlin"]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--days", type=int, default=500)
    parser.add_argument("--per-day", type=int, default=2_000)
    parser.add_argument("--keep", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as made:
        folder = options.keep or Path(made) / "archive"
        if not folder.exists():
            write_rows(folder, ordinary_rows(options.days, options.per_day), "archive")
        where = ["--data", str(folder), "--state-dir", str(Path(made) / "none"), "-o", "sql_threads=1"]
        for name, days in (("the last week", 7), ("all of it", options.days)):
            period = ["--since", (END - timedelta(days=days)).isoformat(), "--until", END.isoformat()]
            cost = run([*CLI, *where, *period])
            sys.stdout.write(f"{name}: {cost.cpu:.1f} s CPU, {cost.wall:.1f} s, {cost.peak_mb:,.0f} MB\n")


if __name__ == "__main__":
    main()
