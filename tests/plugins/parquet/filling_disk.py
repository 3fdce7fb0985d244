"""Fills a disk with a batch; `test_disk.py` runs it in a mount namespace of its own.

Arguments: a folder, which becomes a small disk, and a folder with room. Prints what happened as JSON.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from cfaudit_export import Batch, SinkError, SinkRefusedError
from cfaudit_export.testing import make_batch
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink


def mount(disk: Path, options: str) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(disk)], check=True)


def attempt(sink: ParquetSink, batch: Batch, disk: Path) -> dict[str, Any]:
    error = None
    try:
        sink.load(batch)
    except SinkError as raised:
        error = (type(raised).__name__, str(raised))
    return {"error": error, "files": sorted(path.name for path in disk.rglob("*") if path.is_file())}


def main() -> None:
    disk, room = map(Path, sys.argv[1:])
    batch = make_batch(room, rows=20_000, days=2)
    sink = ParquetSink(ParquetConfig(str(disk)))
    done = {"batch_id": batch.batch_id}
    mount(disk, "size=900k")  # enough for one of the two files
    done["full"] = attempt(sink, batch, disk)
    mount(disk, "remount,size=16m")
    done["with room"] = attempt(sink, batch, disk)
    mount(disk, "remount,ro")
    done["read-only"] = attempt(sink, make_batch(room, rows=1), disk)
    done["read-only again"] = attempt(sink, batch, disk)
    try:
        sink.check()
    except SinkRefusedError as raised:
        done["check"] = str(raised)
    sys.stdout.write(json.dumps(done))


if __name__ == "__main__":
    main()
