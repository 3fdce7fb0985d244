"""The S3 sink against bare puts of prepared objects, on one SeaweedFS, in the same run.

    python tests/benchmarks/bench_s3.py [--events 1000000] [--small 200000] [--rounds 3] [--shape six-field]

The bare side reads the bytes of finished Parquet objects from a disk and puts them with boto3; the sink reads staged
batches and makes those bytes. Prints wall, CPU and peak memory, and the ratios. Nothing here fails a test: the numbers
go into commit messages.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from measure import ROOT, in_turns
from of_sinks import begin, in_child, stage, staged, tell

BUCKET = "bench"


# -- what runs in processes of its own ------------------------------------------------------------------


def load(folder: str, url: str, prefix: str, events: int) -> None:
    from cfaudit_s3 import S3Config
    from cfaudit_s3.sink import S3Sink

    sink = S3Sink(S3Config(bucket=BUCKET, endpoint_url=url, prefix=prefix))
    for batch in staged(folder, events):
        sink.load(batch)
    sink.close()


def put(folder: str, url: str, prefix: str) -> None:
    client = client_of(url)
    for path in sorted(Path(folder).glob("*.parquet")):
        client.put_object(Bucket=BUCKET, Key=prefix + path.name, Body=path.read_bytes(), IfNoneMatch="*")
    client.close()


def fetch(folder: str, url: str, prefix: str) -> None:
    client = client_of(url)
    for entry in client.list_objects_v2(Bucket=BUCKET, Prefix=prefix)["Contents"]:
        if entry["Key"].endswith(".parquet"):
            body = client.get_object(Bucket=BUCKET, Key=entry["Key"])["Body"].read()
            Path(folder, Path(entry["Key"]).name).write_bytes(body)
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
    where, objects = folder / "staged", folder / "objects"
    in_child(__file__, "stage", where, options.shape, options.events)
    with seaweed(folder / "server") as url:
        in_child(__file__, "load", where, url, "first/", options.events)
        in_child(__file__, "fetch", objects, url, "first/")
        costs = in_turns(
            options.rounds,
            bare=lambda: in_child(__file__, "put", objects, url, f"{uuid4().hex}/"),
            sink=lambda: in_child(__file__, "load", where, url, f"{uuid4().hex}/", options.events),
            small=lambda: in_child(__file__, "load", where, url, f"{uuid4().hex}/", options.small),
        )
    size_mb = sum(path.stat().st_size for path in objects.iterdir()) / 1e6
    tell(f"{options.events} events, {options.shape}, {size_mb:.0f} MB of objects, into S3", options, costs)


if __name__ == "__main__":
    begin(__doc__, compare, stage=stage, load=load, put=put, fetch=fetch)
