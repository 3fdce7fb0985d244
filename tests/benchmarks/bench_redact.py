"""What the transform `redact` costs: CPU microseconds a row, by preset, of whole records as code mode brings them.

    python tests/benchmarks/bench_redact.py [--events 20000] [--rounds 3]

Nothing here fails a test: the numbers go into commit messages.
"""

from __future__ import annotations

import argparse
import base64
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
from measure import verdict

from cfaudit_export.pipeline.transform import NamedTransform, transformed
from cfaudit_export.schema import schema
from cfaudit_redact.config import PRESETS, RedactConfig
from cfaudit_redact.redact import Redact
from cfaudit_sandbox import SandboxOptions, World
from cfaudit_sandbox.world.text import js

NOW = datetime(2026, 11, 1, tzinfo=UTC)
BATCH = 5_000


def row(at: int, record: dict[str, Any]) -> dict[str, Any]:
    """Return a record as a row."""
    actor, resource, raw = (record.get(name) or {} for name in ("actor", "resource", "raw"))
    bodies = {f"resource_{name}": js(resource[name]) for name in ("request", "response", "value") if name in resource}
    return {
        "event_id": f"{at:032x}",
        "event_key": f"{at:032x}",
        "event_time": NOW,
        "ingested_at": NOW,
        "account_id": "0" * 32,
        "fidelity": "full",
        "source": "codemode",
        "event_raw": js(record),
        **{f"actor_{name}": actor.get(name) for name in ("id", "email", "ip_address", "token_name")},
        **{f"raw_{name}": raw.get(name) for name in ("uri", "user_agent", "cf_ray_id")},
        "account_name": record["account"]["name"],
        **bodies,
    }


def main(events: int, rounds: int, folder: Path) -> None:
    """Measure."""
    world = World(SandboxOptions(events=events), clock=NOW.timestamp)
    records = list(world.records(world.accounts[0].id))
    batches = [
        pa.Table.from_pylist([row(at + n, one) for n, one in enumerate(records[at : at + BATCH])], schema=schema())
        for at in range(0, len(records), BATCH)
    ]
    keys = folder / "keys.toml"
    secret = base64.b64encode(bytes(range(32))).decode()
    keys.write_text(f'[[key]]\nid = 1\nfrom = 2020-01-01T00:00:00Z\nsecret = "{secret}"\n')
    keys.chmod(0o600)
    size = sum(map(len, batches[0]["event_raw"].to_pylist())) / batches[0].num_rows
    print(f"{len(records)} whole records of {size:.0f} bytes")
    for preset in PRESETS:
        best = float("inf")
        for _ in range(rounds):
            applied = [NamedTransform("redact", Redact(RedactConfig(preset=preset, keys_file=keys)))]
            began = time.process_time()
            for batch in batches:
                transformed(batch, applied)
            best = min(best, time.process_time() - began)
        goal = 15 if preset == "pseudonyms" else 60
        verdict(f"CPU microseconds a row, preset {preset}", best * 1e6 / len(records), goal)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="cfaudit-bench-") as scratch:
        main(given.events, given.rounds, Path(scratch))
