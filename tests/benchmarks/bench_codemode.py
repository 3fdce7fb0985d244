"""Whole records into Parquet, against what people use today, over the same records in the same run.

    python tests/benchmarks/bench_codemode.py [--events 200000] [--rounds 1] [--large 0] [--dlt DIR]

The exporter reads them by the source `codemode`, with identity, checkpoint and verified files. The peers read the API
behind it, without MCP between: a streaming script (json and `from_pylist`), dlt with Arrow tables, and dlt's REST
source. dlt is installed into an environment of its own, in DIR, if it is not there. Nothing here fails a test: the
numbers go into commit messages.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
import venv
from pathlib import Path
from typing import Any

import httpx2
import pyarrow.parquet as pq
from measure import Cost, in_turns, run, sandbox, show, verdict
from peer_rows import pages

from cfaudit_export.sources.codemode.source import untruncated

HERE = Path(__file__).parent
SPAN = ("2026-10-01T00:00:00.000Z", "2026-11-01T00:00:00.000Z")
WORLD = ("span_seconds=2678000", "end_at=2026-11-01T00:00:00+00:00")
DLT = "dlt[filesystem,parquet]==1.31.0"


def exporter(url: str, token: str, out: Path) -> Cost:
    shutil.rmtree(out, ignore_errors=True)
    command = [sys.executable, "-m", "cfaudit_export", "run", "--source", "codemode", "--server-url", url]
    command += ["--sink", "parquet", "-o", f"sinks.parquet.path={out / 'parquet'}", "--state-dir", str(out / "state")]
    command += ["--since", SPAN[0], "--until", SPAN[1], "-o", "sources.codemode.budget_calls=0"]
    return run(command, env={"CLOUDFLARE_API_TOKEN": token})


def peer(command: list[str], out: Path) -> Cost:
    shutil.rmtree(out, ignore_errors=True)
    return run([*command, str(out)])


def with_dlt(folder: Path) -> str:
    """Return the interpreter of an environment that has dlt, made if it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
        subprocess.run([python, "-m", "pip", "install", "-q", DLT], check=True)
    return str(python)


def rows_in(out: Path) -> int:
    """Count the events that arrived; what dlt keeps for itself, and the tables it makes of nested lists, are none."""
    files = [path for path in out.rglob("*.parquet") if not re.search(r"/(dlt|_dlt\w*|\w+__\w+)/", str(path))]
    return sum(pq.read_metadata(path).num_rows for path in files)


def compare(events: int, rounds: int, dlt: Path, out: Path) -> Cost:
    with sandbox(f"events={events}", *WORLD) as (mcp_url, token):
        origin = mcp_url.removesuffix("/mcp")
        account = account_of(origin)
        codemode, api = f"{origin}/codemode/mcp", f"{origin}/codemode/client/v4/accounts/{account}/logs/audit"
        given = [api, token, *SPAN]
        script = [sys.executable, str(HERE / "peer_script.py"), *given]
        dlt_command = [with_dlt(dlt), str(HERE / "peer_dlt.py")]
        loop = [sys.executable, str(HERE / "bare_loop.py"), "codemode", untruncated(codemode), token, *SPAN]
        peers = {
            "streaming script": script,
            "dlt, Arrow": [*dlt_command, "arrow", *given],
            "dlt, REST source": [*dlt_command, "rest", *given],
        }
        # The server renders each page once; after that all read prepared pages.
        exporter(codemode, token, out / "exporter")
        sum(map(len, pages(lambda url, query: read(url, token, query), api, *SPAN)))
        runs = {"exporter": lambda: exporter(codemode, token, out / "exporter")}
        runs |= {name: lambda name=name: peer(peers[name], out / name.replace(", ", "-")) for name in peers}
        loops = {"bare loop": lambda: run(loop), "least": lambda: run([*loop, str(out / "least.parquet")])}
        costs = in_turns(rounds, **runs, **loops)
        for name in runs:
            found = rows_in(out / name.replace(", ", "-"))
            if found != events:
                raise SystemExit(f"{name} has {found} rows, not {events}")
    ours = costs["exporter"]
    show(f"{events} whole records into Parquet", costs)
    verdict("wall against the streaming script", ours.wall / costs["streaming script"].wall, 0.25)
    verdict("wall against dlt with Arrow", ours.wall / costs["dlt, Arrow"].wall, 0.25)
    verdict("wall against dlt's REST source", ours.wall / costs["dlt, REST source"].wall, 0.12)
    for name in peers:
        print(f"       CPU against {name}: {ours.cpu / costs[name].cpu:.2f}")
    verdict("CPU seconds per million events", ours.cpu / events * 1e6, 15)
    # What no exporter can do without: an SDK that reads the pages, and each row decoded, mapped and written once.
    for name in ("bare loop", "least"):
        print(f"       those of the {name}: {costs[name].cpu / events * 1e6:.1f}")
    print(f"       CPU of the exporter against the least: {ours.cpu / costs['least'].cpu:.2f}")
    verdict("peak memory in MB", ours.peak_mb, 256)
    return ours


def memory(large: int, small: Cost, out: Path) -> None:
    with sandbox(f"events={large}", *WORLD) as (mcp_url, token):
        cost = exporter(mcp_url.removesuffix("/mcp") + "/codemode/mcp", token, out / "large")
    show(f"{large} whole records", {"exporter": cost})
    verdict("CPU seconds per million events", cost.cpu / large * 1e6, 15)
    verdict("peak memory against the smaller export", cost.peak_mb / small.peak_mb, 1.10)


def read(url: str, token: str, query: dict[str, Any]) -> Any:
    return httpx2.get(url, params=query, headers={"Authorization": f"Bearer {token}"}, timeout=60).json()


def account_of(origin: str) -> str:
    """Ask the sandbox for its account."""
    return str(httpx2.get(f"{origin}/sandbox/world").json()["accounts"][0]["id"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--large", type=int, default=0)
    parser.add_argument("--dlt", type=Path, default=Path(tempfile.gettempdir()) / "cfaudit-bench-dlt")
    options = parser.parse_args()
    out = Path(tempfile.mkdtemp(prefix="cfaudit-bench-"))
    try:
        small = compare(options.events, options.rounds, options.dlt, out)
        if options.large:
            memory(options.large, small, out)
    finally:
        shutil.rmtree(out)


if __name__ == "__main__":
    main()
