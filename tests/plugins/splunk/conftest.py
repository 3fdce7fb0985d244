"""Stand-ins for Splunk over HTTP, time that passes when a test sleeps, and events as a search sees them."""

from __future__ import annotations

import datetime as dt
import importlib.util
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from cfaudit_export import Batch
from cfaudit_export.core.model import to_ms
from cfaudit_export.schema import COLUMNS, schema
from cfaudit_splunk import SplunkConfig
from cfaudit_splunk.collector import Timing
from cfaudit_splunk.sink import SplunkSink


def _load(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(f"splunk_{name}", Path(__file__).with_name(f"{name}.py"))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


_HEC = _load("hec")


@pytest.fixture(scope="session")
def hec() -> Any:
    return _HEC


@pytest.fixture
def new_splunk() -> Iterator[Callable[..., Any]]:
    with ExitStack() as servers:
        yield lambda **options: servers.enter_context(_HEC.Server(**options))


@pytest.fixture
def splunk(new_splunk: Callable[..., Any]) -> Any:
    return new_splunk()


class Time:
    """Seconds that pass only while a sleep lasts."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.slept: list[float] = []
        self.on_sleep: Callable[[], None] = lambda: None

    def timing(self) -> Timing:
        return Timing(lambda: self.now, self._sleep, lambda: 1.0)

    def _sleep(self, seconds: float) -> None:
        assert seconds >= 0
        self.slept.append(seconds)
        self.now += seconds
        self.on_sleep()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def new_sink(
    time: Time, system_certificates: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., SplunkSink]]:
    sinks: list[SplunkSink] = []
    monkeypatch.setenv("SSL_CERT_FILE", str(system_certificates))
    monkeypatch.setenv("SPLUNK_HEC_TOKEN", "token-plain")

    def build(*servers: Any, acks: bool = False, **settings: Any) -> SplunkSink:
        if acks:
            monkeypatch.setenv("SPLUNK_HEC_TOKEN", "token-acks")
        config = SplunkConfig(url=tuple(server.url for server in servers), **settings)
        sinks.append(SplunkSink(config, time.timing()))
        return sinks[-1]

    yield build
    for sink in sinks:
        sink.close()


def read_object(text: str) -> dict[str, Any]:
    """Return the columns of an object that was posted; what has no value is left out."""
    posted = json.loads(text)
    row = {**posted["event"], **posted["fields"]}
    row["source"] = row.pop("cfaudit_source")
    for column in COLUMNS:
        if column.name not in row:
            continue
        if column.kind == "json":
            row[column.name] = json.dumps(row[column.name])
        elif column.kind == "timestamp":
            row[column.name] = dt.datetime.fromisoformat(row[column.name])
    return row


@pytest.fixture(scope="session")
def events_of() -> Callable[..., pa.Table]:
    def events(*servers: Any) -> pa.Table:
        rows = [read_object(text) for server in servers for text in server.collector.kept]
        return pa.Table.from_pylist(rows, schema=schema())

    return events


@pytest.fixture(scope="session")
def ids_of() -> Callable[..., list[str]]:
    def ids(*servers: Any) -> list[str]:
        return [json.loads(text)["fields"]["event_id"] for server in servers for text in server.collector.kept]

    return ids


class KilledLoads:
    """Loads batches in processes that are killed."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def at_step(self, batch: Batch, token: str, step: int, **settings: Any) -> bool:
        """Kill the load before its line number `step`; return False when it was done by then."""
        return self._ask(batch, token, settings, step=step)

    def after(self, batch: Batch, token: str, seconds: float, **settings: Any) -> bool:
        """Kill the load after some time; return False when it was done by then."""
        return self._ask(batch, token, settings, seconds=seconds)

    def _ask(
        self,
        batch: Batch,
        token: str,
        settings: dict[str, Any],
        step: int | None = None,
        seconds: float | None = None,
    ) -> bool:
        order = {
            "batch_id": batch.batch_id,
            "account_id": batch.stream.account_id,
            "source": batch.stream.source,
            "window": [to_ms(batch.window.since), to_ms(batch.window.before)],
            "rows": batch.rows,
            "path": str(batch.path),
            "digest": batch.digest,
            "token": token,
            "settings": settings,
            "step": step,
            "seconds": seconds,
        }
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, "the loading process died"
        return bool(json.loads(answer))


@pytest.fixture(scope="module")
def killed_loads(system_certificates: Path) -> Iterator[KilledLoads]:
    script = Path(__file__).with_name("loading_children.py")
    with subprocess.Popen(
        [sys.executable, str(script)],
        env={**os.environ, "SSL_CERT_FILE": str(system_certificates)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        yield KilledLoads(process)
        assert process.stdin
        process.stdin.close()
        process.wait(timeout=30)


def make_certificate(path: Path) -> Path:
    """Write a certificate that signs itself, with its key, as a fresh Splunk has one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    signed = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(key.private_bytes(*form) + signed.public_bytes(serialization.Encoding.PEM))
    return path


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_certificate(tmp_path_factory.mktemp("tls") / "splunk.pem")


@pytest.fixture(scope="session")
def system_certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that the system trusts: one instead of hundreds, which take long to read, and not our Splunk."""
    return make_certificate(tmp_path_factory.mktemp("tls") / "system.pem")
