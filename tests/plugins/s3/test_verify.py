"""`verify --source` of an export in a bucket: the files are counted there, and repaired there."""

from __future__ import annotations

import io
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cfaudit_export.cli import main
from cfaudit_sandbox import Sandbox, SandboxOptions, World

SPAN = 86_400.0
EVENTS = 120


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run a command in this process, where nothing of this machine is set."""
    for variable in [name for name in os.environ if name.startswith("CFAUDIT_")]:
        monkeypatch.delenv(variable)
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = main(list(arguments))
        captured = capsys.readouterr()
        return int(code), captured.out, captured.err

    return run


def without_first(place: Any) -> str:
    """Delete the first row of the largest object, as a person might who means well; return its key."""
    tables = {key: pq.read_table(io.BytesIO(place.read(key)), partitioning=None) for key in place.data_keys()}
    key, table = max(tables.items(), key=lambda one: one[1].num_rows)
    # Under another name and without its digests: a file that another program wrote is believed.
    place.client.delete_object(Bucket=place.bucket, Key=key)
    written = io.BytesIO()
    pq.write_table(table.slice(1).replace_schema_metadata(None), written)
    place.client.put_object(Bucket=place.bucket, Key=key, Body=written.getvalue())
    return str(table["event_key"][0].as_py())


def test_an_export_in_a_bucket_is_compared_and_repaired(
    place: Any, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(SandboxOptions(events=EVENTS, span_seconds=SPAN, twins=0.1, seed=3))
    with Sandbox(world) as sandbox:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", world.tokens["account"])
        account = world.accounts[0].id
        given = {
            "source": "codemode",
            "sources.codemode.budget_calls": "0",
            "sinks.s3.bucket": place.bucket,
            "sinks.s3.endpoint_url": place.url,
            "sinks.s3.prefix": place.prefix,
        }
        where = ("--server-url", sandbox.codemode_url, "--account", account, "--sink", "s3", "--state-dir", "state")
        options = (*where, *(word for name, value in given.items() for word in ("-o", f"{name}={value}")))

        def verify(*more: str) -> tuple[int, dict[str, Any]]:
            code, out, said = cli("verify", "--source", *options, "--all", "--json", *more)
            assert out.strip(), said
            return code, json.loads(out)[0]

        code, _, said = cli("run", *options, "--since", "2d", "--settle-lag", "0s")
        assert code == 0, said
        code, answer = verify()
        assert (code, answer["differences"], answer["export_rows"]) == (0, [], EVENTS)

        gone = without_first(place)
        code, answer = verify("--repair")
        assert code == 65
        assert [(one["what"], one["event_key"]) for one in answer["differences"]] == [("missing", gone)]

        code, _, said = cli("gaps", "--retry", *options, "--settle-lag", "0s")
        assert code == 0, said
        code, answer = verify()
        assert (code, answer["differences"], answer["export_rows"]) == (0, [], EVENTS)
        events: pa.Table = place.events()
        assert len(set(events["event_id"].to_pylist())) == events.num_rows == EVENTS
