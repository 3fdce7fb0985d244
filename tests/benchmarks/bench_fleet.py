"""Many idle accounts: what an hourly run over all of them takes, and what `status` takes with so many streams.

    python tests/benchmarks/bench_fleet.py [--accounts 1000] [--parallel 16] [--latency 0.1]

The first run exports a few events of each account, the second finds nothing new, which is what an hourly run of a quiet
fleet is. The goals are for the second one. Seconds by the clock are those of this machine at this moment: seconds of
CPU tell more where it is shared.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile

from measure import Cost, run, sandbox, show, verdict

_GOAL_WALL, _GOAL_CPU_EACH, _GOAL_MB = 120.0, 0.12, 600.0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accounts", type=int, default=1_000)
    parser.add_argument("--parallel", type=int, nargs="+", default=[16])
    parser.add_argument("--latency", type=float, default=0.1)
    given = parser.parse_args()
    knobs = (f"accounts={given.accounts}", "events=3", "span_seconds=3600", f"latency_seconds={given.latency}")
    with sandbox("token=user", *knobs) as (url, token), tempfile.TemporaryDirectory() as folder:
        program = (sys.executable, "-m", "cfaudit_export")
        state = ("--state-dir", f"{folder}/state", "-o", f"sinks.parquet.path={folder}/out", "--sink", "parquet")
        source = ("--source", "codemode", "--server-url", url.replace("/mcp", "/codemode/mcp"), "--account", "all")
        command = (*program, "run", *state, *source, "-o", "sources.codemode.budget_calls=0", "--log-format", "text")
        environ = {"CLOUDFLARE_API_TOKEN": token, "HOME": folder}

        def once(parallel: int) -> Cost:
            return run((*command, "--parallel", str(parallel)), env=environ)

        first = once(given.parallel[0])
        costs = {f"nothing new, {parallel} at once": once(parallel) for parallel in given.parallel}
        status = run((*program, "status", "--state-dir", f"{folder}/state"), env=environ)
        show(f"{given.accounts} accounts, {given.latency:g} s latency", {"first run": first, **costs, "status": status})
        print(f"  load of the machine: {os.getloadavg()}")
        best = costs[f"nothing new, {given.parallel[0]} at once"]
        verdict("seconds by the clock", best.wall, _GOAL_WALL * given.accounts / 1_000)
        verdict("seconds of CPU for an account", best.cpu / given.accounts, _GOAL_CPU_EACH)
        verdict("peak memory, MB", best.peak_mb, _GOAL_MB)


if __name__ == "__main__":
    main()
