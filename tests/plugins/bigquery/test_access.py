"""Who asks: credentials that are found, refused, or not available now."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from google.auth.exceptions import RefreshError

from cfaudit_bigquery import BigQueryConfig
from cfaudit_bigquery.access import auth_fault
from cfaudit_bigquery.faults import PassingError
from cfaudit_bigquery.service import TableService
from cfaudit_bigquery.sink import BigQuerySink
from cfaudit_export import SinkError, SinkRefusedError

NOWHERE = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but the settings say who asks, and for which project."""
    for name in ("GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS", "BIGQUERY_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def key_file(tmp_path: Path) -> Callable[..., Path]:
    """Return what writes the key of a service account, whose tokens come from an address."""
    key = rsa.generate_private_key(65537, 2048).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def write(tokens_from: str = NOWHERE) -> Path:
        info = {
            "type": "service_account",
            "project_id": "of-the-key",
            "private_key": key.decode(),
            "client_email": "export@of-the-key.iam.gserviceaccount.com",
            "token_uri": tokens_from,
        }
        path = tmp_path / "key.json"
        path.write_text(json.dumps(info))
        return path

    return write


@contextmanager
def token_server(status: int, answer: dict[str, Any]) -> Iterator[str]:
    """Serve one answer to all who ask for a token; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def checked_with(key: Path) -> None:
    """Check with a key; BigQuery itself is never reached, as there is no token."""
    config = BigQueryConfig(
        table="audit.events", credentials_file=key, endpoint_url="https://127.0.0.1:9", retry_seconds=0
    )
    BigQuerySink(config).check()


def test_the_project_is_the_one_that_is_set_else_that_of_the_key(key_file: Any) -> None:
    def table(**more: Any) -> str:
        return TableService(BigQueryConfig(credentials_file=key_file(), **more)).table

    assert table(table="audit.events") == "of-the-key.audit.events"
    assert table(table="audit.events", project="payer") == "payer.audit.events"
    assert table(table="owner.audit.events", project="payer") == "owner.audit.events"


def test_without_any_project_the_settings_are_not_enough() -> None:
    sink = BigQuerySink(BigQueryConfig(table="audit.events", endpoint_url=NOWHERE))
    with pytest.raises(SinkRefusedError, match=r"no project to run jobs in; set project, or write table as 'project"):
        sink.check()


def test_no_credentials_are_said_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", "/no/such/file")
    sink = BigQuerySink(BigQueryConfig(table="p.audit.events", endpoint_url="https://bigquery.invalid"))
    with pytest.raises(SinkRefusedError, match="no credentials that Google accepts: .*set credentials_file"):
        sink.check()


def test_a_key_that_is_none_is_named_and_not_shown(tmp_path: Path) -> None:
    key = tmp_path / "key.json"
    key.write_text('{"private_key": "hunter2"}')
    with pytest.raises(SinkRefusedError, match="is not the key of a service account") as caught:
        checked_with(key)
    assert "hunter2" not in str(caught.value)


def test_a_key_that_google_does_not_know_is_refused(key_file: Any) -> None:
    with (
        token_server(400, {"error": "invalid_grant", "error_description": "Invalid JWT Signature."}) as url,
        pytest.raises(SinkRefusedError, match=r"no credentials that Google accepts: .*Invalid JWT Signature"),
    ):
        checked_with(key_file(url))


def test_that_no_token_can_be_had_now_is_no_fault_of_the_settings(key_file: Any) -> None:
    with pytest.raises(SinkError, match="no access token for BigQuery now") as caught:
        checked_with(key_file())
    assert not isinstance(caught.value, SinkRefusedError)


def test_a_busy_server_of_tokens_is_no_fault_of_the_settings() -> None:
    assert isinstance(auth_fault(RefreshError("503", retryable=True)), PassingError)
