"""Every peer in every hostile way: each command ends with a name, in time and memory, and tells no secret."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path
from typing import Any

import pyarrow.dataset as ds
import pytest

from cfaudit_export.errors import ExitCode
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from hostile import BEHAVIOURS, Ended, Peer, Program, running, serving

MOST_MB = 256
MOST_SECONDS = 120
"""Deadlines of a case are a few seconds; a machine that is busy may take longer, and a run that hangs does for ever."""
FINE = {ExitCode.OK}
NAMED = {code for code in ExitCode if code not in (ExitCode.OK, ExitCode.BUG, ExitCode.CHANGED, ExitCode.USAGE)}
SECRETS = {
    "CLOUDFLARE_API_TOKEN": "cfat_zqcanary7k3-of-the-cloudflare-token",
    "HEC": "zqcanary7k3-of-the-collector",
    "AWS_ACCESS_KEY_ID": "AKIDFORTESTS",
    "AWS_SECRET_ACCESS_KEY": "zqcanary7k3-of-the-store",
    "AWS_EC2_METADATA_DISABLED": "true",
    "OTEL_EXPORTER_OTLP_HEADERS": "x-key=zqcanary7k3-of-the-collector-of-metrics",
}
ACCOUNT = "0f3c1e5a7b9d2468ace013579bdf2468"
SOURCE = "-o sources.{0}.timeout_seconds=1 -o sources.{0}.retry_seconds=1 -o sources.{0}.api_url= --max-wait 0s"
HONEST = "--source auditlogs --server-url {mcp} --since 40d --max-wait 1s"
PARQUET = "--sink parquet -o sinks.parquet.path=out"
S3 = "bucket=audit -o {0}.endpoint_url={{peer}} -o {0}.region=eu-west-1 -o {0}.timeout_seconds=0.5 -o {0}.attempts=1"


@dataclass(frozen=True)
class Case:
    """A command with one hostile peer.

    Attributes:
        command: where `{peer}` stands for the hostile peer, and `{mcp}` for an honest server.
        codes: how it may end.
        environ: more variables.
    """

    command: str
    codes: frozenset[ExitCode] | set[ExitCode]
    environ: tuple[tuple[str, str], ...] = ()


CASES = {
    "audit logs server": Case(
        f"run --source auditlogs --server-url {{peer}}/mcp --account {ACCOUNT} --since 1d {SOURCE.format('auditlogs')}"
        f" {PARQUET}",
        NAMED,
    ),
    "code mode server": Case(
        f"run --source codemode --server-url {{peer}}/mcp --account {ACCOUNT} --since 1d --max-wait 0s {PARQUET}"
        " -o sources.codemode.timeout_seconds=1 -o sources.codemode.retry_seconds=1",
        NAMED,
    ),
    "server, asked which account": Case(
        f"check --source auditlogs --server-url {{peer}}/mcp {SOURCE.format('auditlogs')} {PARQUET}", NAMED
    ),
    "API that names the account": Case(
        f"run --source auditlogs --server-url {{mcp}} --since 40d --max-wait 0s {PARQUET} -o"
        " sources.auditlogs.api_url={peer} -o sources.auditlogs.timeout_seconds=1 -o sources.auditlogs.retry_seconds=1",
        NAMED | FINE,
    ),
    "collector": Case(
        f"run {HONEST} --sink splunk -o sinks.splunk.url={{peer}} -o sinks.splunk.token_env=HEC"
        " -o sinks.splunk.retry_seconds=0 -o sinks.splunk.timeout_seconds=0.5",
        NAMED,
    ),
    "store of data": Case(f"run {HONEST} --sink s3 -o sinks.s3.{S3.format('sinks.s3')}", NAMED),
    "store of checkpoints": Case(
        f"run {HONEST} {PARQUET} -o checkpoint.store=s3 -o checkpoint.{S3.format('checkpoint')}", NAMED
    ),
    "store that is read": Case(
        f"report --data s3://audit -o sinks.s3.{S3.format('sinks.s3')}", NAMED | {ExitCode.USAGE}
    ),
    "table": Case(
        f"run {HONEST} --sink bigquery -o sinks.bigquery.table=p.d.t -o sinks.bigquery.endpoint_url={{peer}}"
        " -o sinks.bigquery.retry_seconds=0 -o sinks.bigquery.job_timeout_seconds=1",
        NAMED,
    ),
    "monitor": Case(f"run {HONEST} {PARQUET} -o ping_url={{peer}}/ping", FINE),
    "collector of metrics": Case(
        f"run {HONEST} {PARQUET} --otlp-endpoint {{peer}}", FINE, (("OTEL_EXPORTER_OTLP_TIMEOUT", "1"),)
    ),
    "time stamping authority": Case(f"run {HONEST} {PARQUET} -o integrity.timestamp_url={{peer}}/tsa", FINE),
    "proxy": Case(
        f"run --source auditlogs --server-url https://audit.example.com/mcp --account {ACCOUNT} --since 1d"
        f" {SOURCE.format('auditlogs')} {PARQUET}",
        NAMED,
        (("HTTPS_PROXY", "{peer}"),),
    ),
    "authorization server": Case("login --no-browser --server-url {peer}/mcp", NAMED),
}
"""Every kind of peer that the program asks something."""

EVERY = [(case, behaviour) for case in CASES for behaviour in BEHAVIOURS]
SAMPLE = set(zip(cycle(CASES), BEHAVIOURS, strict=False)) | {
    ("store that is read", "has no end"),
    ("store of data", "nests tags deeply"),
    ("collector of metrics", "has no end"),
    ("table", "has no end"),
}
"""Each peer twice and each behaviour once; the others are tried by `pytest -m soak`."""


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=30, seed=7))) as found:
        yield found


def filled(text: str, sandbox: Sandbox, peer: Peer) -> str:
    return text.replace("{peer}", peer.url).replace("{mcp}", sandbox.mcp_url)


def environ_of(case: Case, sandbox: Sandbox, peer: Peer) -> dict[str, str]:
    environ = {**SECRETS, **{name: filled(value, sandbox, peer) for name, value in case.environ}}
    if "{mcp}" in case.command:
        environ["CLOUDFLARE_API_TOKEN"] = sandbox.world.tokens["user"]
    if case.command.startswith("login"):
        del environ["CLOUDFLARE_API_TOKEN"]
    return environ


def require_no_secret(folder: Path, environ: dict[str, str]) -> None:
    """Look for secrets in all that was written, and for what others could read."""
    secrets = [environ.get("CLOUDFLARE_API_TOKEN") or "zqcanary7k3", "zqcanary7k3"]
    for path in folder.rglob("*"):
        content = path.read_bytes().decode(errors="replace") if path.is_file() else ""
        assert not [one for one in secrets if one[:12] in content], path
        mode = stat.S_IMODE(path.lstat().st_mode)
        assert path.is_symlink() or not mode & 0o007 or path.name == "home", (path, oct(mode))


def require_plain(ended: Ended) -> None:
    """Whatever a peer says, a terminal, a log or a reader acts upon none of it."""
    for text in (ended.out, ended.err):
        odd = {mark for mark in text if not mark.isprintable() and mark != "\n"}
        assert not odd, odd
    assert "Traceback" not in ended.err


@contextmanager
def attacked(name: str, behaviour: str, program: Program, sandbox: Sandbox, folder: Path) -> Iterator[Ended]:
    case = CASES[name]
    with serving(behaviour) as peer:
        environ = environ_of(case, sandbox, peer)
        ended = program.run(folder, [*filled(case.command, sandbox, peer).split(), "--state-dir", "state"], environ)
        require_no_secret(folder, environ)
        yield ended


@pytest.mark.parametrize(
    ("name", "behaviour"),
    [pytest.param(*one, marks=() if one in SAMPLE else pytest.mark.soak, id=" ".join(one)) for one in EVERY],
)
def test_no_peer_holds_fills_or_fools_the_program(
    name: str, behaviour: str, program: Program, sandbox: Sandbox, tmp_path: Path, record_property: Any
) -> None:
    with attacked(name, behaviour, program, sandbox, tmp_path) as ended:
        record_property("measured", f"{ended.code} {ended.seconds:.1f} s {ended.peak_mb:.0f} MB")
        assert ended.code in CASES[name].codes, ended
        assert ended.peak_mb < MOST_MB, ended
        assert ended.seconds < MOST_SECONDS, ended
        require_plain(ended)
    if ended.code == ExitCode.OK and "parquet" in CASES[name].command:
        ids = ds.dataset(tmp_path / "out", format="parquet").to_table(columns=["event_id"])["event_id"].to_pylist()
        assert len(ids) == len(set(ids)) == 30
