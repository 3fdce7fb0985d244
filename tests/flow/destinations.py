"""Where a whole export goes to in tests: a folder, S3, BigQuery and Splunk, each a real server or a strict stand-in.

Each says how the command line names it, and what is stored there.
"""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

PLUGINS = Path(__file__).parents[1] / "plugins"


def load(path: Path) -> Any:
    """Import a module by its path; test folders are not packages."""
    name = f"flow_{path.parent.name}_{path.stem}"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, path)
        assert spec
        assert spec.loader
        sys.modules[name] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


def same(raw: str) -> str:
    """Return a spelling of an event that does not depend on who wrote it."""
    return json.dumps(json.loads(raw), sort_keys=True)


@dataclass(frozen=True)
class Destination:
    """One place that events go to.

    Attributes:
        sink: the sink that writes there.
        options: keys of its settings, as they stand on a command line.
        environ: variables that it needs.
        stored: reads the id and the spelling of every event that is there.
        behind: the server, the stand-in or the folder.
        files: reads every file that is there but for notes and marks, by its name; for a sink that stores files.
    """

    sink: str
    options: dict[str, str]
    environ: dict[str, str]
    stored: Callable[[], list[tuple[str, str]]]
    behind: Any
    files: Callable[[], dict[str, bytes]] = dict

    def ids(self) -> list[str]:
        return sorted(event_id for event_id, _ in self.stored())

    def texts(self) -> Counter[str]:
        return Counter(text for _, text in self.stored())


def pairs(table: pa.Table) -> list[tuple[str, str]]:
    return list(zip(table["event_id"].to_pylist(), map(same, table["event_raw"].to_pylist()), strict=True))


def folder(path: Path) -> Destination:
    def stored() -> list[tuple[str, str]]:
        files = sorted(path.rglob("*.parquet"))
        return [pair for file in files for pair in pairs(pq.read_table(file, partitioning=None))]

    return Destination("parquet", {"path": str(path)}, {}, stored, path, lambda: files_in(path))


def files_in(root: Path) -> dict[str, bytes]:
    """Read the exported files and the manifests below a folder, by their names."""
    found = (path for path in root.rglob("*") if path.suffix in {".parquet", ".json"})
    return {str(path.relative_to(root)): path.read_bytes() for path in found}


def bucket(place: Any, key_id: str, secret: str) -> Destination:
    options = {"bucket": place.bucket, "endpoint_url": place.url, "region": "us-east-1", "attempts": "2"}
    environ = {
        "AWS_ACCESS_KEY_ID": key_id,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
    }

    def files() -> dict[str, bytes]:
        keys = (key for key in place.listed() if key.endswith(".parquet") or "/manifests/" in key)
        return {key.removeprefix(place.prefix): place.read(key) for key in keys}

    return Destination("s3", options | {"prefix": place.prefix}, environ, lambda: pairs(place.events()), place, files)


def table(standin: Any) -> Destination:
    standin.say("reset")
    standin.say("dataset", name="proj.audit", location="EU")
    options = {"table": "proj.audit.events", "endpoint_url": standin.url, "retry_seconds": "5"}
    return Destination("bigquery", options, {}, lambda: pairs(standin.events()), standin)


def index(server: Any, token: str) -> Destination:
    options = {"url": server.url, "max_events": "8", "ack_poll_seconds": "0.002", "retry_seconds": "2"}
    server.collector.polls_until_indexed = 1
    return Destination(
        "splunk",
        options,
        {"SPLUNK_HEC_TOKEN": token},
        lambda: [event_of(text) for text in server.collector.kept],
        server,
    )


def event_of(text: str) -> tuple[str, str]:
    """Return the id and the spelling of an event as it was posted to Splunk."""
    posted = json.loads(text)
    return posted["fields"]["event_id"], json.dumps(posted["event"]["event_raw"], sort_keys=True)


class Counterparts:
    """The servers, each started when it is first asked for; every call makes a fresh destination."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._running: dict[str, Any] = {}

    def fresh(self, sink: str) -> Destination:
        """Return a place where nothing is stored."""
        match sink:
            case "parquet":
                return folder(self._folder / uuid.uuid4().hex[:8])
            case "s3":
                module = load(PLUGINS / "s3" / "conftest.py")
                url = self._once("s3", lambda: module.serving("serve_moto.py"))
                client = self._running.setdefault("s3 client", module.new_client(url))
                return bucket(
                    module.Place(url, client, f"{uuid.uuid4().hex[:12]}/audit/"), module.KEY_ID, module.SECRET
                )
            case "bigquery":
                return table(self._once("bigquery", _standin))
            case _:
                hec = load(PLUGINS / "splunk" / "hec.py")
                return index(self._stack.enter_context(hec.Server()), "token-acks")

    def _once(self, name: str, start: Callable[[], Any]) -> Any:
        if name not in self._running:
            self._running[name] = self._stack.enter_context(start())
        return self._running[name]


@contextmanager
def _standin() -> Iterator[Any]:
    module = load(PLUGINS / "bigquery" / "conftest.py")
    command = [sys.executable, str(PLUGINS / "bigquery" / "standin")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield module.StandIn(process.stdout.readline().strip())
        process.kill()


@pytest.fixture(scope="session")
def counterparts(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Counterparts]:
    with ExitStack() as stack:
        yield Counterparts(tmp_path_factory.mktemp("destinations"), stack)
