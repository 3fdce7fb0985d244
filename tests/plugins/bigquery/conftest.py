from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow as pa
import pytest

from cfaudit_bigquery import BigQueryConfig
from cfaudit_bigquery.sink import BigQuerySink
from cfaudit_export import Batch
from cfaudit_export.core.model import to_ms
from cfaudit_export.schema import schema
from cfaudit_export.schema_formats import as_bigquery

TABLE = "proj.audit.events"


class StandIn:
    """The stand-in of BigQuery, as tests steer it and look at it."""

    def __init__(self, url: str) -> None:
        self.url = url

    def say(self, what: str, **asked: Any) -> Any:
        body = json.dumps(asked).encode()
        with urllib.request.urlopen(f"{self.url}/standin/{what}", body, timeout=60) as answer:  # noqa: S310 - our own server
            return json.load(answer)

    def fault(self, method: str, path: str, action: str, **more: Any) -> None:
        self.say("fault", method=method, path=path, action=action, **more)

    def job_fault(self, job: str, **more: Any) -> None:
        self.say("fault", job=job, **more)

    def release(self) -> None:
        """Let the request go on that is held back, and wait for its end."""
        self.say("release")
        assert self.say("idle"), "the request did not end"

    def make_table(self, fields: list[dict[str, str]], name: str = TABLE, **more: Any) -> None:
        self.say("table", name=name, resource={"schema": {"fields": fields}}, **more)

    def make_table_as_the_sink_does(self) -> None:
        self.make_table(json.loads(as_bigquery()))

    def tables(self) -> dict[str, Any]:
        return dict(self.say("look")["tables"])

    def jobs(self) -> dict[str, Any]:
        return {name.removeprefix("proj."): job for name, job in self.say("look")["jobs"].items()}

    def requests(self, method: str = "") -> list[list[Any]]:
        return [request for request in self.say("look")["requests"] if request[0].startswith(method)]

    def needed(self) -> set[str]:
        """Return the permissions that were needed so far."""
        return set(self.say("look")["needed"])

    def rows(self, name: str = TABLE) -> pa.Table:
        with urllib.request.urlopen(f"{self.url}/standin/rows?table={name}", timeout=60) as answer:  # noqa: S310 - our own server
            content = answer.read()
        return pa.ipc.open_stream(content).read_all() if content else schema().empty_table()

    def events(self) -> pa.Table:
        """Return what is stored as a table of the schema; JSON that was kept as a text is that text again."""
        stored = self.rows()
        if not stored.num_rows:
            return schema().empty_table()
        raw = [_unwrapped(text) for text in stored["event_raw"].to_pylist()]
        position = stored.schema.get_field_index("event_raw")
        stored = stored.set_column(position, "event_raw", pa.array(raw, pa.string())).select(schema().names)
        return stored.cast(pa.schema([pa.field(field.name, field.type) for field in schema()]))

    def ids(self) -> list[str]:
        return sorted(self.rows()["event_id"].to_pylist())

    def config(self, **more: Any) -> BigQueryConfig:
        return BigQueryConfig(**{"table": TABLE, "endpoint_url": self.url, "retry_seconds": 20, **more})

    def sink(self, **more: Any) -> BigQuerySink:
        return BigQuerySink(self.config(**more))

    def sink_in(self, days: int, **more: Any) -> BigQuerySink:
        """Return a sink that lives in the future."""
        return BigQuerySink(self.config(**more), clock=lambda: datetime.now(UTC) + timedelta(days=days))


def _unwrapped(text: str | None) -> str | None:
    if text is None:
        return None
    value = json.loads(text)
    return value if isinstance(value, str) else text


@pytest.fixture(scope="session")
def standin_process() -> Iterator[StandIn]:
    command = [sys.executable, str(Path(__file__).with_name("standin"))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout
        yield StandIn(process.stdout.readline().strip())
        process.kill()


@pytest.fixture
def standin(standin_process: StandIn) -> StandIn:
    standin_process.say("reset")
    standin_process.say("dataset", name="proj.audit", location="EU")
    return standin_process


class KilledLoads:
    """Loads batches in processes that are killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def at_step(self, batch: Batch, standin: StandIn, step: int, **config: Any) -> bool:
        """Kill the load before its line number `step`; return False when it was done by then."""
        return self._ask(batch, standin, config, step=step)

    def after(self, batch: Batch, standin: StandIn, seconds: float, **config: Any) -> bool:
        """Kill the load after some time; return False when it was done by then."""
        return self._ask(batch, standin, config, seconds=seconds)

    def while_held(self, batch: Batch, standin: StandIn, **config: Any) -> None:
        """Kill the load while a request of it is held back by a fault; `standin.release` lets that go through."""
        self._tell(batch, standin, config, on_word=True)
        assert standin.say("held"), "no request was held"
        self._write("kill")
        assert self._answer()

    def _ask(self, batch: Batch, standin: StandIn, config: dict[str, Any], **when: Any) -> bool:
        self._tell(batch, standin, config, **when)
        return self._answer()

    def _tell(self, batch: Batch, standin: StandIn, config: dict[str, Any], **when: Any) -> None:
        order = {
            "batch_id": batch.batch_id,
            "account_id": batch.stream.account_id,
            "source": batch.stream.source,
            "window": [to_ms(batch.window.since), to_ms(batch.window.before)],
            "rows": batch.rows,
            "path": str(batch.path),
            "config": {"table": TABLE, "endpoint_url": standin.url, **config},
            "step": None,
            "seconds": None,
            "on_word": False,
            **when,
        }
        self._write(json.dumps(order))

    def _write(self, line: str) -> None:
        assert self._process.stdin
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _answer(self) -> bool:
        assert self._process.stdout
        answer = self._process.stdout.readline()
        assert answer, "the loading process died"
        return bool(json.loads(answer))


@pytest.fixture(scope="session")
def killed_loads() -> Iterator[KilledLoads]:
    script = Path(__file__).with_name("loading_children.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield KilledLoads(process)
        assert process.stdin
        process.stdin.close()
        process.wait(timeout=30)


@pytest.fixture(scope="session")
def json_type() -> ModuleType:
    """Return the stand-in's idea of the type JSON."""
    spec = importlib.util.spec_from_file_location(
        "bigquery_json_type", Path(__file__).parent / "standin" / "json_type.py"
    )
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
