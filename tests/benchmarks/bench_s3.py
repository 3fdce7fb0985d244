"""The S3 sink against bare puts of prepared objects, on one SeaweedFS, in the same run.

    python tests/benchmarks/bench_s3.py [--events 1000000] [--small 200000] [--rounds 3] [--shape six-field]

The bare side reads the bytes of finished Parquet objects from a disk and puts them with boto3; the sink reads staged
batches and makes those bytes. Prints wall, CPU and peak memory, and the ratios. Nothing here fails a test: the numbers
go into commit messages.
"""

from __future__ import annotations

import argparse
import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from measure import ROOT, Cost, in_turns, run, show, verdict

ROWS = 50_000  # of a batch, which is about what a run stages at a time
ME = [sys.executable, str(Path(__file__))]
BUCKET = "bench"


# -- what runs in processes of its own ------------------------------------------------------------------


def stage(folder: Path, shape: Any, events: int) -> None:
    from cfaudit_export.testing import make_batch

    batches = [make_batch(folder, rows=ROWS, seed=seed, shape=shape) for seed in range(events // ROWS)]
    (folder / "batches").write_bytes(pickle.dumps(batches))


def load(folder: Path, url: str, prefix: str, events: int) -> None:
    from cfaudit_s3 import S3Config
    from cfaudit_s3.sink import S3Sink

    sink = S3Sink(S3Config(bucket=BUCKET, endpoint_url=url, prefix=prefix))
    for batch in pickle.loads((folder / "batches").read_bytes())[: events // ROWS]:  # noqa: S301 - written above
        sink.load(batch)
    sink.close()


def put(folder: Path, url: str, prefix: str) -> None:
    client = client_of(url)
    for path in sorted(folder.glob("*.parquet")):
        client.put_object(Bucket=BUCKET, Key=prefix + path.name, Body=path.read_bytes(), IfNoneMatch="*")
    client.close()


def fetch(folder: Path, url: str, prefix: str) -> None:
    client = client_of(url)
    for entry in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]:
        if entry["Key"].endswith(".parquet"):
            body = client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
            (folder / Path(entry["Key"]).name).write_bytes(body)
    client.close()


# -- the comparison -------------------------------------------------------------------------------------


def client_of(url: str) -> Any:
    import boto3
    from botocore.config import Config

    config = Config(s3={"addressing_style": "path"}, request_checksum_calculation="when_required")
    return boto3.client("s3", endpoint_url=url, region_name="us-east-1", config=config)


@contextmanager
def seaweed(folder: Path) -> Iterator[str]:
    os.environ |= {"AWS_ACCESS_KEY_ID": "bench", "AWS_SECRET_ACCESS_KEY": "bench-secret"}
    script = ROOT / "tests" / "plugins" / "s3" / "serve_seaweed.py"
    command = [sys.executable, str(script), str(folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin
        assert server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}"
        try:
            make_bucket(url)
            yield url
        finally:
            server.stdin.close()
            server.wait(30)


def make_bucket(url: str) -> None:
    from botocore.exceptions import BotoCoreError, ClientError

    client = client_of(url)
    deadline = time.monotonic() + 60
    while True:
        try:
            client.create_bucket(Bucket=BUCKET)
            client.put_object(Bucket=BUCKET, Key="ready", Body=b"1")
        except (BotoCoreError, ClientError):
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
        else:
            client.close()
            return


def compare(folder: Path, options: argparse.Namespace) -> None:
    for name in ("staged", "objects", "server"):
        (folder / name).mkdir()
    staged, objects = str(folder / "staged"), str(folder / "objects")
    run([*ME, "--child", "stage", staged, options.shape, str(options.events)])
    with seaweed(folder / "server") as url:

        def loaded(events: int) -> Cost:
            return run([*ME, "--child", "load", staged, url, f"{uuid4().hex}/", str(events)])

        run([*ME, "--child", "load", staged, url, "first/", str(options.events)])
        run([*ME, "--child", "fetch", objects, url, "first/"])
        costs = in_turns(
            options.rounds,
            bare=lambda: run([*ME, "--child", "put", objects, url, f"{uuid4().hex}/"]),
            sink=lambda: loaded(options.events),
            small=lambda: loaded(options.small),
        )
    size_mb = sum(path.stat().st_size for path in Path(objects).iterdir()) / 1e6
    show(f"{options.events} events, {options.shape}, {options.events // ROWS} objects, {size_mb:.0f} MB", costs)
    bare, sink, small = costs["bare"], costs["sink"], costs["small"]
    print(f"  events per second: sink {options.events / sink.wall:,.0f}, bare put {options.events / bare.wall:,.0f}")
    print(f"  sink against bare put of prepared bytes: wall {sink.wall / bare.wall:.2f}, CPU {sink.cpu / bare.cpu:.2f}")
    verdict(f"peak memory against {options.small} events", sink.peak_mb / small.peak_mb, 1.20)
    verdict("peak memory in MB", sink.peak_mb, 256)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--shape", choices=["six-field", "whole"], default="six-field")
    parser.add_argument("--child", nargs="*", help=argparse.SUPPRESS)
    options = parser.parse_args()
    match options.child:
        case None:
            with tempfile.TemporaryDirectory(prefix="cfaudit-bench-") as folder:
                compare(Path(folder), options)
        case ["stage", folder, shape, events]:
            stage(Path(folder), shape, int(events))
        case ["load", folder, url, prefix, events]:
            load(Path(folder), url, prefix, int(events))
        case ["put", folder, url, prefix]:
            put(Path(folder), url, prefix)
        case ["fetch", folder, url, prefix]:
            fetch(Path(folder), url, prefix)


if __name__ == "__main__":
    main()
