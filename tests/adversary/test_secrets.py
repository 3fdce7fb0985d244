"""A secret in every place that may hold one, peers that say all they hear back, and a search of all that is written."""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from xml.sax.saxutils import escape

import pytest

from cfaudit_export.auth.grants import Grant
from cfaudit_export.auth.registration import Client
from cfaudit_export.auth.signout import sign_out
from cfaudit_export.auth.store import GrantStore
from cfaudit_export.cli import main
from cfaudit_export.core.model import Checkpoint, Gap, Stream, Window
from cfaudit_export.core.redaction import Redaction
from cfaudit_export.settings.secret_values import secret_variables
from cfaudit_export.stores.file import FileStore
from cfaudit_export.stores.guarded import GuardedStore
from cfaudit_sandbox import Sandbox, SandboxOptions, World

NOW = datetime(2026, 11, 20, tzinfo=UTC)
LEAST = 8
"""Who reads so many characters of a secret has read too many."""


def canary(name: str) -> str:
    """Return a secret that is like no other text, and like no other secret."""
    return f"zq{name}7k3-canary-{name[::-1]}-0123456789abcdef"


def plain(basic: str) -> tuple[str, str]:
    """Return name and password of a header `Basic`, as its receiver can read them."""
    name, _, password = base64.b64decode(basic.removeprefix("Basic ")).decode().partition(":")
    return name, password


SECRET_HEADERS = {"Authorization", "X-Key", "x-key", "X-Amz-Security-Token", "Proxy-Authorization"}


class Echo(BaseHTTPRequestHandler):
    """Refuses everything, and says back all that it heard, also where a text is cut to 200 or 300 characters."""

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        if b"Action=AssumeRole" in body:
            self.reply(200, ROLE.format(secret=canary("rolesecret"), token=canary("roletoken")).encode(), "text/xml")
            return
        # Secrets are in headers and paths; what is said of a body may be all that fits into a message.
        headers = sorted(self.headers.items(), key=lambda one: one[0] not in SECRET_HEADERS)
        heard = " ".join(
            [*(f"{name}: {value}" for name, value in headers), self.path, body[:300].decode(errors="replace")]
        )
        cut = "".join(f"{'.' * (length - len(heard) % 7)}{heard} " for length in (0, 60, 120, 180))
        if self.headers.get("Authorization", "").startswith("AWS4"):
            said = f"<Error><Code>AccessDenied</Code><Message>{escape(f'{heard} {cut}')}</Message></Error>"
            self.reply(403, said.encode(), "application/xml")
            return
        said = {"text": f"{heard} {cut}", "code": 4, "error": heard, "error_description": f"{'-' * 250}{heard}"}
        said["errors"] = [{"code": 10000, "message": heard}]  # type: ignore[assignment]  # as an API has them
        self.reply(403, json.dumps(said).encode(), "application/json")

    def reply(self, status: int, body: bytes, kind: str) -> None:
        heard = [value for name, value in self.headers.items() if name in SECRET_HEADERS]
        basics = [self.headers.get(name, "") for name in ("Authorization", "Proxy-Authorization")]
        words = [word for one in basics if one.startswith("Basic ") for word in plain(one)]
        self.send_response(status, " ".join(["Refused", *heard, *words]).replace("\n", " "))
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_DELETE = do_HEAD = do_CONNECT = answer  # noqa: N815  # the names are the library's

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  # as above
        """Say nothing."""


ROLE = """<AssumeRoleResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><AssumeRoleResult><Credentials>
<AccessKeyId>ASIAQQQQQQQQQQQQQQQQ</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>
<SessionToken>{token}</SessionToken><Expiration>2036-01-01T00:00:00Z</Expiration></Credentials>
<AssumedRoleUser><AssumedRoleId>A:b</AssumedRoleId><Arn>arn:aws:sts::123456789012:assumed-role/a/b</Arn>
</AssumedRoleUser></AssumeRoleResult></AssumeRoleResponse>"""


@pytest.fixture(scope="module")
def echo() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Echo)
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=30, seed=7))) as running:
        yield running


@dataclass(frozen=True)
class Case:
    """A command, the variables and files that it is given, and the names of the secrets in them.

    Each secret would be written if nothing hid it: `silent` where only because libraries would log what goes over the
    wire. `unsent` are secrets that go nowhere; they are looked for as well. Commands are separated by `&&`.

    `{echo}` stands for the server that says everything back, `{mcp}` for a real one, `{NAME}` for a secret.
    """

    command: str
    secrets: tuple[str, ...]
    environ: dict[str, str] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    unsent: tuple[str, ...] = ()
    silent: bool = False


SPLUNK = "--sink splunk -o sinks.splunk.url={echo} -o sinks.splunk.retry_seconds=0"
SOURCE = "--source auditlogs --server-url {mcp}"
AWS = {
    "AWS_ACCESS_KEY_ID": "{keyid}",
    "AWS_SECRET_ACCESS_KEY": "{awssecret}",
    "AWS_SESSION_TOKEN": "{session}",
    "AWS_MAX_ATTEMPTS": "1",
    "AWS_ENDPOINT_URL_STS": "{echo}",
    "AWS_EC2_METADATA_DISABLED": "true",
}
S3 = "--sink s3 -o sinks.s3.bucket=audit -o sinks.s3.endpoint_url={echo} -o sinks.s3.region=eu-west-1"
BROKEN = """
import os
from dataclasses import dataclass
from cfaudit_export import SinkPlugin, hookimpl

@dataclass(frozen=True)
class Config:
    pass

def build(config):
    raise ZeroDivisionError(os.environ["BROKEN_TOKEN"])

@hookimpl
def cfaudit_sinks():
    yield SinkPlugin("broken", Config, build, "breaks")
"""
CASES = {
    "API token, headers, query": Case(
        "check --source auditlogs --server-url {echo}/mcp?key={query} --header X-Key=MINE --sink parquet"
        " -o sinks.parquet.path=out",
        ("api", "query", "header"),
        {"CLOUDFLARE_API_TOKEN": "{api}", "MINE": "Basic {header} and more"},
    ),
    "path of the server, token file": Case(
        "check --source auditlogs --server-url {echo}/{path}/mcp -o token_file=token --sink parquet"
        " -o sinks.parquet.path=out",
        ("path", "filetoken"),
        files={"token": "{filetoken}\n"},
    ),
    "HEC token of a variable": Case(
        f"check {SOURCE} {SPLUNK} -o sinks.splunk.token_env=HEC", ("hec",), {"HEC": "{hec}"}
    ),
    "HEC token of a file, in the report of a run": Case(
        f"run {SOURCE} {SPLUNK} -o sinks.splunk.token_file=hec.txt --since 40d --json",
        ("hecfile",),
        files={"hec.txt": "{hecfile}"},
    ),
    "monitor, collector, metrics": Case(
        f"run {SOURCE} --sink parquet -o sinks.parquet.path=out --since 40d -o ping_url={{echo}}/ping/{{ping}}"
        " --metrics-file m.prom --otlp-endpoint {echo}/v1/{otlp} --json",
        ("ping", "otlp", "otlpheader"),
        {"OTEL_EXPORTER_OTLP_HEADERS": "x-key={otlpheader},b=c", "OTEL_EXPORTER_OTLP_TIMEOUT": "1"},
        silent=True,
    ),
    "keys of AWS": Case(f"check {SOURCE} {S3}", ("session",), AWS, unsent=("awssecret",)),
    "keys of a role": Case(
        f"check {SOURCE} {S3} -o sinks.s3.role_arn=arn:aws:iam::123456789012:role/a",
        ("session", "rolesecret", "roletoken"),
        AWS,
        unsent=("awssecret",),
    ),
    "keys of a role, in a report": Case(
        "report --data s3://audit -o sinks.s3.endpoint_url={echo} -o sinks.s3.region=eu-west-1 -o sinks.s3.attempts=1"
        " -o sinks.s3.role_arn=arn:aws:iam::123456789012:role/a",
        ("session", "rolesecret", "roletoken"),
        AWS,
        unsent=("awssecret",),
    ),
    "password of a proxy": Case(
        "check --source auditlogs --server-url https://audit.example.com/mcp --sink parquet -o sinks.parquet.path=out",
        ("proxy",),
        {"HTTPS_PROXY": "http://me:{proxy}@{host}", "CLOUDFLARE_API_TOKEN": "{api}"},
        unsent=("api",),
    ),
    "what is planned": Case(
        "plan --source auditlogs --server-url {echo}/mcp?key={query} --sink parquet -o sinks.parquet.path=out",
        ("api", "query"),
        {"CLOUDFLARE_API_TOKEN": "{api}"},
    ),
    "status, after a run": Case(
        "run --source auditlogs --server-url {echo}/mcp?key={query} --sink parquet -o sinks.parquet.path=out"
        " && status --source auditlogs --server-url {echo}/mcp?key={query} --json",
        ("api", "query"),
        {"CLOUDFLARE_API_TOKEN": "{api}"},
    ),
    "a crash of a plugin": Case(
        f"run {SOURCE} --sink broken --since 40d",
        ("plugin",),
        {"BROKEN_TOKEN": "{plugin}"},
        {
            "broken_sink.py": BROKEN,
            "broken_sink-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: broken-sink\nVersion: 1.0\n",
            "broken_sink-1.0.dist-info/entry_points.txt": "[cfaudit_export]\nbroken = broken_sink\n",
        },
    ),
}


@pytest.mark.parametrize(
    ("name", "log_format"), [*((name, "text") for name in CASES), *((name, "json") for name in list(CASES)[:2])]
)
def test_no_secret_is_written_anywhere(
    name: str,
    log_format: str,
    echo: str,
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    case = CASES[name]
    values = {one: canary(one) for one in (*case.secrets, *case.unsent, "keyid")}

    def filled(text: str) -> str:
        for key, value in {**values, "echo": echo, "host": echo.partition("//")[2], "mcp": sandbox.mcp_url}.items():
            text = text.replace(f"{{{key}}}", value)
        return text

    for variable in list(os.environ):
        if variable.startswith(("CFAUDIT_", "CLOUDFLARE_", "AWS_", "OTEL_")) or variable.lower().endswith("_proxy"):
            monkeypatch.delenv(variable)
    for variable in ("HOME", "XDG_CONFIG_HOME", "XDG_STATE_HOME"):
        monkeypatch.setenv(variable, str(tmp_path / "home"))
    monkeypatch.setenv("CLOUDFLARE_API_TOKEN", sandbox.world.tokens["user"])
    for variable, value in case.environ.items():
        monkeypatch.setenv(variable, filled(value))
    if name.startswith("path"):
        monkeypatch.delenv("CLOUDFLARE_API_TOKEN")
    given = {tmp_path / path: filled(text) for path, text in case.files.items()}
    for path, text in given.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for command in filled(case.command).split(" && "):
        code = main([*command.split(), "-vv", "--state-dir", "state", "-o", f"log_format={log_format}"])
    out, err = capfd.readouterr()
    written = {"stdout": out, "stderr": err} | {
        str(path): path.read_bytes().decode(errors="replace")
        for path in tmp_path.rglob("*")
        if path.is_file() and path not in given
    }
    assert (code == 0) == (name in {"status, after a run", "monitor, collector, metrics"}), (out, err)
    leaks = {
        f"{secret} in {place}: {longest(value, text)}"
        for secret in (*case.secrets, *case.unsent)
        for value in [canary(secret)]
        for place, text in written.items()
        if value[:LEAST] in text
    }
    assert not leaks
    assert case.silent or "***" in out + err, "what was said back is said, without the secret"
    basics = [one for text in written.values() for one in re.findall(r"Basic ([A-Za-z0-9+/]{12,}={0,2})", text)]
    assert not [one for one in basics if any(canary(name)[:LEAST].encode() in decoded(one) for name in case.secrets)]


def decoded(text: str) -> bytes:
    """Return what Base64 stands for, as far as it goes."""
    letters = re.sub(r"[^A-Za-z0-9+/]", "", text.translate(str.maketrans("-_", "+/")))
    return base64.b64decode(letters[: len(letters) // 4 * 4])


def longest(secret: str, text: str) -> str:
    """Return the longest beginning of a secret in a text, as far as there is one."""
    return next((secret[:length] for length in range(len(secret), 0, -1) if secret[:length] in text), "")


def test_a_password_is_hidden_in_base64_behind_a_name_of_any_length() -> None:
    redaction, secret = Redaction(), canary("basic")
    redaction.hide(secret)
    for length in range(6):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            shown = redaction(f"said: Basic {encode(f'{chr(255) * length}:{secret}'.encode()).decode()}")
            assert secret[:LEAST].encode() not in decoded(shown.partition("Basic ")[2])
            assert "***" in shown


@pytest.mark.parametrize("cut", range(LEAST, 40))
def test_a_secret_that_was_cut_is_not_shown_up_to_the_cut(cut: int) -> None:
    redaction, secret = Redaction(), canary("cut")
    redaction.hide(secret)
    for form in (
        "said: '{}'",
        'said: "{}"',
        "said: {}…",
        "said: {}",
        "said: {}... and so on",
        '{{"said": "{}\\u2026"}}',
    ):
        assert secret[:LEAST] not in redaction(form.format(secret[:cut]))


def test_texts_that_only_begin_like_a_secret_are_left_as_they_are() -> None:
    redaction = Redaction()
    for secret in ("https://hc.example.com/0123456789", "Bearer 0123456789abcdef", "password-of-mine"):
        redaction.hide(secret)
    for text in ("see https://docs.example.com/", "Bearer tokens are sent", "the password is wrong", "a passport"):
        assert redaction(text) == text


def test_a_server_that_says_a_refresh_token_back_when_it_is_revoked_gets_it_nowhere(echo: str, tmp_path: Path) -> None:
    store, told, redaction = GrantStore(tmp_path), list[str](), Redaction()
    store.add(
        Grant(
            issuer=echo,
            resource=f"{echo}/mcp",
            profile="default",
            audience=echo,
            client=Client(id="me", secret=canary("client"), auth_method="client_secret_post"),
            token_endpoint=f"{echo}/token",
            revocation_endpoint=f"{echo}/revoke",
            access_token=canary("access"),
            refresh_token=canary("refresh"),
            signed_in_at=NOW,
            renewed_at=NOW,
        )
    )
    sign_out(store, f"{echo}/mcp", "default", tell=lambda text: told.append(redaction(text)), hide=redaction.hide)
    assert "but not revoked" in told[0]
    assert "***" in told[0], "it was said back"
    assert not [name for name in ("client", "access", "refresh") if canary(name)[:LEAST] in told[0]]


def test_a_checkpoint_keeps_no_secret_that_a_server_put_into_the_reason_of_a_gap(tmp_path: Path) -> None:
    redaction = Redaction()
    redaction.hide(canary("echoed"))
    window = Window(NOW, NOW + timedelta(milliseconds=1))
    gap = Gap(window, 1, f"unknown token '{canary('echoed')}'", NOW, NOW)
    store = GuardedStore(FileStore(tmp_path), redaction, lambda: NOW)
    checkpoint = Checkpoint(Stream("a" * 32, "auditlogs"), gaps=(gap,), updated_at=NOW)
    with store.hold(checkpoint.stream.id):
        version = store.save(checkpoint, expected=None)
    [name] = store.streams()
    found = store.load(name)
    assert found is not None
    assert found.version == version
    assert found.checkpoint.gaps[0].reason == "unknown token '***'"


def test_secrets_are_found_by_names_of_variables_and_in_urls(tmp_path: Path) -> None:
    (tmp_path / "key.json").write_text("{}")
    found = set(
        secret_variables(
            {
                "GITHUB_TOKEN": "one",
                "DB_PASSWORD": "two",
                "GOOGLE_APPLICATION_CREDENTIALS": str(tmp_path / "key.json"),
                "WEBHOOK": "https://hooks.example.com/services/T0001/abcdefgh0123456789",
                "https_proxy": "http://me:th%40ree@proxy.example.com:3128",
                "OTEL_EXPORTER_OTLP_TRACES_HEADERS": "a=four,b=five%20six",
                "CFAUDIT_SERVER_URL": "https://example.com/mcp?key=seven",
                "LANG": "C.UTF-8",
            }
        )
    )
    assert found == {"one", "two", "abcdefgh0123456789", "th%40ree", "th@ree", "four", "five six", "seven"}


@pytest.mark.parametrize("secret", ["\\\\\\\\\\\\\\\\", 'pass\\word"with-quotes', "12345678"])
def test_what_is_hidden_in_json_leaves_json(secret: str) -> None:
    redaction = Redaction()
    redaction.hide(secret)
    for cut in range(len(secret) + 1):
        json.loads(redaction(json.dumps({"said": secret[:cut], "then": 12345678})))
