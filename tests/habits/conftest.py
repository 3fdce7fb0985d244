"""Many sessions are opened here, none over TLS: a store with one certificate is read in no time."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import trustme


@pytest.fixture(scope="session", autouse=True)
def _small_certificate_store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    path = tmp_path_factory.mktemp("tls") / "ca.pem"
    trustme.CA().cert_pem.write_to_path(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", str(path))
        yield
