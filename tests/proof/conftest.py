"""A time stamping authority of the tests' own, run by openssl behind HTTP."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CONFIG = """
[tsa]
default_tsa = here
[here]
serial = serial
signer_cert = tsa.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


@dataclass(frozen=True)
class Authority:
    """Where it is, its root certificate, and what it answers with (None for timestamps)."""

    url: str
    folder: Path
    replies: list[tuple[int, bytes] | None]

    @property
    def root(self) -> Path:
        return self.folder / "root.pem"


@pytest.fixture
def authority(tmp_path: Path) -> Iterator[Authority]:
    if shutil.which("openssl") is None:
        pytest.skip("openssl is not installed")
    folder = tmp_path / "tsa"
    folder.mkdir()
    make_certificates(folder)
    (folder / "tsa.cnf").write_text(CONFIG)
    replies: list[tuple[int, bytes] | None] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            query = self.rfile.read(int(self.headers["Content-Length"]))
            planned = replies.pop(0) if replies else None
            status, content = planned or (200, stamped(folder, query))
            self.send_response(status)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield Authority(f"http://127.0.0.1:{server.server_port}/tsa", folder, replies)
        server.shutdown()


@pytest.fixture
def new_certificates() -> Callable[[Path, str], None]:
    return make_certificates


def stamped(folder: Path, query: bytes) -> bytes:
    (folder / "query").write_bytes(query)
    words = ["openssl", "ts", "-reply", "-config", "tsa.cnf", "-queryfile", "query", "-out", "reply"]
    subprocess.run(words, cwd=folder, check=True, capture_output=True, timeout=60)
    return (folder / "reply").read_bytes()


def make_certificates(folder: Path, whose: str = "the tests") -> None:
    """Make a root, and a certificate for timestamps that it has signed."""
    now = datetime.now(UTC)
    root_key, key = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Root of {whose}")])
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Authority of the tests")])

    def built(subject: x509.Name, public: ec.EllipticCurvePublicKey, extensions: list[x509.ExtensionType]) -> bytes:
        builder = x509.CertificateBuilder(root_name, subject, public, x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=9))
        for one in extensions:
            builder = builder.add_extension(one, critical=True)
        return builder.sign(root_key, hashes.SHA256()).public_bytes(Encoding.PEM)

    root = built(root_name, root_key.public_key(), [x509.BasicConstraints(ca=True, path_length=None)])
    leaf = built(name, key.public_key(), [x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])])
    (folder / "root.pem").write_bytes(root)
    (folder / "tsa.pem").write_bytes(leaf)
    (folder / "tsa.key").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (folder / "serial").write_text("01")
