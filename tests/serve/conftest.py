"""An export of a sandbox, an archive over it in this process, and servers over it in processes of their own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cfaudit_export.app.compose import compose
from cfaudit_export.app.export import export
from cfaudit_export.parquet import write_parquet
from cfaudit_export.plugin.registry import load_plugins
from cfaudit_export.schema import schema
from cfaudit_export.serve.archive import Archive
from cfaudit_export.serve.order import ServeOrder
from cfaudit_export.serve.worker import answer
from cfaudit_export.settings import Settings
from cfaudit_sandbox import Sandbox, SandboxOptions, World

END = datetime(2026, 11, 20, tzinfo=UTC)
NOW = END + timedelta(hours=1)
ACCOUNT = "0f3c1e5a7b9d2468ace013579bdf2468"
EVENTS = 1_200

Row = dict[str, Any]
Ask = Callable[..., dict[str, Any]]


@dataclass(frozen=True, slots=True)
class Served:
    """What an export left: files, state, and the world that it was made of."""

    folder: Path
    state: Path
    world: World
    account: str
    gaps: int = 0

    def order(self, **changes: Any) -> ServeOrder:
        """Return the order to serve it."""
        return ServeOrder(Settings(state_dir=self.state), str(self.folder), **changes)

    @property
    def command(self) -> list[str]:
        """The command that serves it over stdio."""
        place = [str(self.folder), "--state-dir", str(self.state)]
        return [sys.executable, "-m", "cfaudit_export", "mcp", *place, "--log-format", "json"]


def exported_world(folder: Path, options: SandboxOptions) -> Served:
    """Export the first account of a sandbox over HTTP into Parquet."""
    world = World(options, NOW.timestamp)
    with Sandbox(world) as sandbox:
        settings = Settings(
            source="auditlogs",
            sink=("parquet",),
            since=datetime.fromtimestamp(world.since, UTC),
            state_dir=folder / "state",
            sources={"auditlogs": {"server_url": sandbox.mcp_url, "budget_calls": 0}},
            sinks={"parquet": {"path": str(folder / "parquet")}},
        )
        environ = {"CLOUDFLARE_API_TOKEN": world.tokens["user"]}
        assembly = compose(settings, load_plugins(environ={}), environ=environ, clock=lambda: NOW)
        report = export(assembly, world.accounts[0].id)
    return Served(folder / "parquet", folder / "state", world, world.accounts[0].id, len(report.gaps))


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Served:
    options = SandboxOptions(events=EVENTS, span_seconds=7 * 86_400.0, end_at=END, seed=5)
    return exported_world(tmp_path_factory.mktemp("served"), options)


@pytest.fixture(scope="session")
def broken(tmp_path_factory: pytest.TempPathFactory) -> Served:
    """An export with gaps and shadows."""
    options = SandboxOptions(events=400, span_seconds=7 * 86_400.0, end_at=END, seed=5, poison={"all": 6})
    return exported_world(tmp_path_factory.mktemp("broken"), options)


@pytest.fixture
def opened() -> Iterator[Callable[[ServeOrder], Archive]]:
    """Open archives in this process, at a time that stands still."""
    archives: list[Archive] = []

    def open_order(order: ServeOrder) -> Archive:
        archives.append(Archive(order, lambda: NOW, lambda: 0.0, lambda _: None))
        return archives[-1]

    yield open_order
    for one in archives:
        one.__exit__()


def put(archive: Archive, tool: str, **arguments: Any) -> dict[str, Any]:
    """Return the reply of a worker."""
    return answer(archive, {"tool": tool, "arguments": arguments, "seconds": 60.0})


@pytest.fixture
def asked(opened: Callable[[ServeOrder], Archive]) -> Callable[[ServeOrder], Ask]:
    """Return what asks an archive in this process: the answer, which must be one."""

    def of(order: ServeOrder) -> Ask:
        archive = opened(order)

        def ask(tool: str, **arguments: Any) -> dict[str, Any]:
            reply = put(archive, tool, **arguments)
            assert reply["outcome"] == "ok", reply["text"]
            body: dict[str, Any] = json.loads(reply["text"])
            return body

        return ask

    return of


@pytest.fixture
def ask(served: Served, asked: Callable[[ServeOrder], Ask]) -> Ask:
    """Ask the export of the sandbox."""
    return asked(served.order())


@pytest.fixture
def refused(served: Served, opened: Callable[[ServeOrder], Archive]) -> Callable[..., str]:
    """Return what a question that is refused is answered with."""
    archive = opened(served.order())

    def of(tool: str, **arguments: Any) -> str:
        reply = put(archive, tool, **arguments)
        assert reply["outcome"] == "refused", reply
        return str(reply["text"])

    return of


# -- files made by hand ------------------------------------------------------------------------------------------------


def stored_rows(root: Path, rows: Iterable[Row]) -> Path:
    """Write rows, completed by what is required, as one file a day and account; return the folder."""
    days: dict[tuple[str, str], list[Row]] = {}
    for number, row in enumerate(rows):
        key = f"{number:032x}"
        required = {"event_id": key, "event_key": key, "account_id": ACCOUNT, "fidelity": "full", "source": "auditlogs"}
        full = required | {"ingested_at": NOW} | row
        days.setdefault((full["account_id"], f"{full['event_time']:%Y-%m-%d}"), []).append(full)
    for (account, day), members in days.items():
        folder = root / f"account_id={account}" / f"event_date={day}"
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / "batch.parquet").open("wb") as file:
            table = pa.Table.from_pylist(members, schema=schema())
            write_parquet(file, schema(), [table], {"cfaudit_schema_version": "1", "cfaudit_stream": "s" * 16})
    return root


@pytest.fixture
def by_hand(tmp_path: Path, asked: Callable[[ServeOrder], Ask]) -> Callable[..., Ask]:
    """Ask about rows made by hand, of which no checkpoint speaks."""

    def of(*rows: Row, **changes: Any) -> Ask:
        folder = stored_rows(tmp_path / "by-hand", rows)
        return asked(ServeOrder(Settings(state_dir=tmp_path / "none"), str(folder), **changes))

    return of


# -- processes ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WebProcess:
    """A server over HTTP: its URL, the process, and what it said so far."""

    url: str
    process: subprocess.Popen[str]
    said: list[str]


@contextmanager
def web_process(served: Served, *options: str) -> Iterator[WebProcess]:
    """Serve over HTTP from a process of its own."""
    command = [*served.command, "--http", "127.0.0.1:0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment())
    said: list[str] = []
    try:
        assert process.stderr
        url = None
        while url is None:
            line = process.stderr.readline()
            assert line, "".join(said)
            said.append(line)
            url = re.search(r"http://\S+", line)
        reader = threading.Thread(target=lambda: said.extend(process.stderr or ()), daemon=True)
        reader.start()
        yield WebProcess(url[0], process, said)
    finally:
        process.terminate()
        process.wait(30)
        reader.join(30)
        if process.stderr:
            process.stderr.close()


def environment() -> dict[str, str]:
    """Return the variables of this process without those that set something here."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("CFAUDIT_", "CLOUDFLARE_"))}


@pytest.fixture(scope="session")
def serving() -> Callable[..., Any]:
    """Return what serves an export over HTTP while a context lasts, with further options."""
    return web_process
