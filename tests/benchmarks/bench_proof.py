"""What proof costs an export: the same whole records into Parquet without manifests, with them, and with a key.

    python tests/benchmarks/bench_proof.py [--events 200000] [--rounds 3]

Without a key a manifest has the digests of files, which are made while they are written; with one also those of rows.
The goals are CPU of the exporter's own process. Nothing here fails a test: the numbers go into commit messages.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from measure import Cost, in_turns, run, sandbox, show, verdict

SPAN = ("2026-10-01T00:00:00.000Z", "2026-11-01T00:00:00.000Z")
WORLD = ("span_seconds=2678000", "end_at=2026-11-01T00:00:00+00:00")
MILLION = 1_000_000


def export(url: str, token: str, out: Path, *options: str) -> Cost:
    """Export all; `options` are given with `-o`."""
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "cfaudit_export", "run", "--source", "codemode", "--server-url", url]
    command += ["--sink", "parquet", "-o", f"sinks.parquet.path={out / 'parquet'}", "--state-dir", str(out / "state")]
    command += ["--since", SPAN[0], "--until", SPAN[1], "-o", "sources.codemode.budget_calls=0"]
    return run([*command, *(word for one in options for word in ("-o", one))], env={"CLOUDFLARE_API_TOKEN": token})


def compare(events: int, rounds: int, folder: Path) -> None:
    """Measure."""
    key = folder / "signing.pem"
    run([sys.executable, "-m", "cfaudit_export", "key", "new", "--out", str(key)])
    with sandbox(f"events={events}", *WORLD) as (mcp_url, token):
        url = mcp_url.removesuffix("/mcp") + "/codemode/mcp"
        export(url, token, folder / "first")  # the server renders each page once
        costs = in_turns(
            rounds,
            off=lambda: export(url, token, folder / "off", "integrity.manifests=false"),
            unsigned=lambda: export(url, token, folder / "unsigned"),
            signed=lambda: export(url, token, folder / "signed", f"integrity.key_file={key}"),
        )
    show(f"{events} whole records into Parquet", costs)
    off, unsigned, signed = costs["off"], costs["unsigned"], costs["signed"]
    print(f"  signed against off: wall {signed.wall / off.wall:.2f}, CPU {signed.cpu / off.cpu:.2f}")
    print(f"  unsigned against off: wall {unsigned.wall / off.wall:.2f}, CPU {unsigned.cpu / off.cpu:.2f}")
    verdict("CPU seconds a million records, signed", (signed.cpu - off.cpu) * MILLION / events, 20)
    verdict("CPU seconds a million records, unsigned", (unsigned.cpu - off.cpu) * MILLION / events, 4)
    verdict("peak memory, signed against off", signed.peak_mb / off.peak_mb, 1.1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cfaudit-bench-") as scratch:
        compare(given.events, given.rounds, Path(scratch))
