"""What the tests of `redact` share: keys in a file, and events."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from cfaudit_export.schema import schema
from cfaudit_redact.config import RedactConfig
from cfaudit_redact.redact import Redact

START = datetime(2026, 11, 1, tzinfo=UTC)
SECRETS = [base64.b64encode(bytes(range(at, at + 32))).decode() for at in range(3)]


def keys_text(*keys: tuple[int, str, str | None]) -> str:
    """Return a file of keys: id, the time from which each counts, and its secret."""
    return "".join(
        f"[[key]]\nid = {number}\nfrom = {since}\n" + (f'secret = "{secret}"\n' if secret else "")
        for number, since, secret in keys
    )


@pytest.fixture
def keys_file(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of keys; by default one that counts always."""

    def write(text: str | None = None) -> Path:
        path = tmp_path / "redact-keys.toml"
        path.write_text(keys_text((1, "2020-01-01T00:00:00Z", SECRETS[0])) if text is None else text)
        path.chmod(0o600)
        return path

    return write


@pytest.fixture
def redact(keys_file: Callable[..., Path]) -> Callable[..., Redact]:
    """Build the transform with these settings."""

    def build(keys: str | None = None, **settings: Any) -> Redact:
        return Redact(RedactConfig(**{"keys_file": keys_file(keys), "allow_guessable": True, **settings}))

    return build


@pytest.fixture
def events() -> Callable[..., pa.Table]:
    """Make events with these values, an hour after one another."""

    def make(*rows: dict[str, Any]) -> pa.Table:
        made = [
            {
                "event_id": f"id{at}",
                "event_key": f"key{at}",
                "event_time": START + timedelta(hours=at),
                "account_id": "0" * 32,
                "fidelity": "full",
                "source": "codemode",
                "ingested_at": START,
                **{name: json.dumps(value) if isinstance(value, dict) else value for name, value in row.items()},
            }
            for at, row in enumerate(rows)
        ]
        return pa.Table.from_pylist(made, schema=schema())

    return make
