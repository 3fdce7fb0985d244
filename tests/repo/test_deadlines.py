"""Every wait for a peer has an end: what opens connections is built where its end is built in, and nowhere else."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OPENERS = {
    "httpx2": {
        "Client",
        "AsyncClient",
        "HTTPTransport",
        "AsyncHTTPTransport",
        "get",
        "post",
        "put",
        "request",
        "stream",
    },
    "requests.adapters": {"HTTPAdapter"},
    "botocore.httpsession": {"URLLib3Session"},
    "requests": {"Session", "get", "post", "put", "request"},
    "urllib.request": {"urlopen", "build_opener", "OpenerDirector"},
    "http.client": {"HTTPConnection", "HTTPSConnection"},
    "socket": {"socket", "create_connection", "getaddrinfo", "gethostbyname"},
    "anyio": {"connect_tcp"},
    "asyncio": {"open_connection"},
    "boto3": {"client", "resource", "Session"},
    "botocore.session": {"Session", "get_session"},
    "pyarrow.fs": {"S3FileSystem", "GcsFileSystem", "HadoopFileSystem"},
    "google.auth": {"default"},
    "google.auth.transport.requests": {"AuthorizedSession", "Request"},
    "google.cloud.bigquery": {"Client"},
    "google.cloud": {"bigquery"},
    "opentelemetry.exporter.otlp.proto.http.metric_exporter": {"OTLPMetricExporter"},
    "opentelemetry.exporter.otlp.proto.http.trace_exporter": {"OTLPSpanExporter"},
    "mcp.client.streamable_http": {"streamable_http_client", "streamablehttp_client"},
    "mcp.client.sse": {"sse_client"},
    "smtplib": {"SMTP", "SMTP_SSL"},
}
"""What opens connections, by module; a test below finds modules that are not here."""

BOUNDED = {
    "connector/cfaudit_export/http/aws.py": "its calls are made by `wire` and `bucket`, within a Deadline",
    "connector/cfaudit_export/http/bounded_requests.py": "for sessions that are used within a Deadline",
    "connector/cfaudit_export/http/exchange.py": "the transports with an end, and the client of theirs",
    "connector/cfaudit_export/sources/mcp/session.py": "over AsyncBoundedTransport",
    "connector/cfaudit_export/sources/auditlogs/accounts.py": "over AsyncBoundedTransport",
    "connector/cfaudit_export/sources/auditlogs/cost.py": "over AsyncBoundedTransport",
    "connector/cfaudit_export/sources/rest/source.py": "over AsyncBoundedTransport",
    "connector/cfaudit_export/analysis/files/s3.py": "credentials within a Deadline, and each call, by `bucket`",
    "connector/cfaudit_export/serve/web.py": "listens, and connects to none: those who connect are bounded by uvicorn",
    "connector/cfaudit_export/metrics/otlp.py": "within a Deadline for both signals",
    "plugins/cfaudit_s3/client.py": "its calls are made by `wire`, within a Deadline",
    "plugins/cfaudit_bigquery/access.py": "called by `service`, within a Deadline",
    "plugins/cfaudit_bigquery/bounded.py": "the session whose exchanges have an end",
    "plugins/cfaudit_bigquery/service.py": "over BoundedSession",
}
"""The modules that may open connections, and why each wait of theirs ends."""

OTHERS = ("connector/cfaudit_sandbox", "connector/cfaudit_export/testing")
"""The emulated server, and suites of tests."""


def modules() -> Iterator[tuple[str, ast.Module]]:
    for folder in ("connector", "plugins"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name = path.relative_to(ROOT).as_posix()
            if not name.startswith(OTHERS):
                yield name, ast.parse(path.read_text(encoding="utf-8"))


def opened(tree: ast.Module) -> set[str]:
    """Return what a module calls or inherits of that which opens connections, by whatever name it has it."""
    names: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names |= {
                one.asname or one.name.partition(".")[0]: one.name if one.asname else one.name.partition(".")[0]
                for one in node.names
            }
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    found = set()
    for node in ast.walk(tree):
        used = [node.func] if isinstance(node, ast.Call) else node.bases if isinstance(node, ast.ClassDef) else []
        for one in used:
            head, _, rest = ast.unparse(one).partition(".")
            full = ".".join(filter(None, (names.get(head, ""), rest)))
            module, _, name = full.rpartition(".")
            if name in OPENERS.get(module, ()):
                found.add(full)
    return found


def test_connections_are_opened_only_where_each_wait_has_an_end() -> None:
    found = {name: names for name, tree in modules() if (names := opened(tree))}
    assert {name: names for name, names in found.items() if name not in BOUNDED} == {}
    assert BOUNDED.keys() - found.keys() == set(), "take out what opens no connection any more"


@pytest.mark.parametrize(
    "code",
    [
        "import httpx2\nhttpx2.Client()",
        "import httpx2 as http\nhttp.get('x')",
        "from httpx2 import AsyncClient as C\nC()",
        "import urllib.request\nurllib.request.urlopen('x')",
        "from urllib.request import urlopen\nurlopen('x')",
        "from urllib import request\nrequest.urlopen('x')",
        "import boto3\nboto3.client('s3')",
        "def late():\n    import socket\n    socket.create_connection(('a', 1))",
        "from pyarrow import fs\nfs.S3FileSystem()",
        "import requests\nclass Mine(requests.Session): ...",
    ],
)
def test_an_opener_is_found_by_whatever_name(code: str) -> None:
    assert opened(ast.parse(code))


def test_no_module_has_another_library_for_requests() -> None:
    """One that is not listed above would not be found."""
    others = {
        "aiohttp",
        "urllib3",
        "pycurl",
        "ftplib",
        "telnetlib",
        "imaplib",
        "poplib",
        "xmlrpc",
        "websockets",
        "grpc",
    }
    for name, tree in modules():
        for node in ast.walk(tree):
            imported = [one.name for one in node.names] if isinstance(node, ast.Import) else []
            imported += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            roots = {one.partition(".")[0] for one in imported}
            assert not roots & others, name
