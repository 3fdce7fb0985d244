"""What runs cost that come back every hour: calls of three runs over one small log, of which two find nothing new.

    python tests/benchmarks/bench_calls_again.py [--seeds 3]

Prints tool calls, upstream calls and how many rows have an action type, for 300 events of 2.4 hours with 0, 3 and 20
rows that the server refuses, with the token of a user and the default budget, without columns and with them. Rows that
lack the field by which refused ones are told apart make a difference, so several logs are tried. Waiting is simulated.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Literal

from bench_week import ODD, made

_MODES: tuple[Literal["off", "auto"], ...] = ("off", "auto")


def runs(seed: int, odd: int, mode: Literal["off", "auto"]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        poison = {ODD: odd} if odd else {}
        cron = made(Path(folder), events=300, span_seconds=2.4 * 3_600, poison=poison, seed=seed)
        with cron.sandbox as sandbox:
            for number in (1, 2, 3):
                before = dict(sandbox.upstream.counts)
                report = cron.run(recover=mode)
                tool, upstream = (
                    sandbox.upstream.counts[name] - before.get(name, 0) for name in ("audit_calls", "upstream_calls")
                )
                rows = cron.rows()
                named = rows.num_rows - rows["action_type"].null_count
                print(
                    f"{seed:4} {odd:8} {mode:>8} {number:4} {tool:6} {upstream:9} {named:6} of {rows.num_rows}"
                    f" {len(report.gaps):5}",
                    flush=True,
                )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    options = parser.parse_args()
    print("seed rejected  recover  run   tool  upstream  action type  gaps")
    for odd in (0, 3, 20):
        for mode in _MODES:
            for seed in range(1, options.seeds + 1):
                runs(seed, odd, mode)


if __name__ == "__main__":
    main()
