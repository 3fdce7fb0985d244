"""The same proof of a bucket, over HTTP."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.verify.records import read_records
from cfaudit_export.analysis.verify.verified import Verified
from cfaudit_export.analysis.verify.verify import Asked, verify

# Servers of one process share their buckets.
BUCKET, PREFIX = "proved-audit", "logs/prod"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server, and an environment in which nothing of this machine's AWS configuration is seen."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("AWS_")]:
            patch.delenv(name)
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, "made-up")
        for name in ("AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE"):
            patch.setenv(name, "/dev/null")
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture
def client(endpoint: str) -> Any:
    return boto3.client("s3", endpoint_url=endpoint, region_name="us-east-1")


@pytest.fixture
def uploaded(export: Any, client: Any, endpoint: str) -> Iterator[Callable[..., Verified]]:
    """Upload an export of three days; return what verifies the bucket."""
    export.days(3)
    client.create_bucket(Bucket=BUCKET)
    for path in export.root.rglob("*"):
        if path.is_file():
            client.upload_file(str(path), BUCKET, f"{PREFIX}/{export.name(path)}")
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/_cfaudit/batches/x.json", Body=b"{}")
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/_cfaudit/manifests/", Body=b"")

    def verified(**asked: Any) -> Verified:
        place = open_location(f"s3://{BUCKET}/{PREFIX}", {"endpoint_url": endpoint})
        return verify(place, read_records(place), Asked(keys=(export.keys[0].public,), **asked))

    yield verified
    for one in client.list_objects_v2(Bucket=BUCKET)["Contents"]:
        client.delete_object(Bucket=BUCKET, Key=one["Key"])
    client.delete_bucket(Bucket=BUCKET)


def test_a_bucket_is_proved_as_a_folder_is(export: Any, uploaded: Callable[..., Verified]) -> None:
    found = uploaded()
    assert found.exit_code == 0, list(found.lines)
    assert list(found.lines) == list(export.verify().lines)


def test_what_is_changed_in_a_bucket_shows(export: Any, uploaded: Callable[..., Verified], client: Any) -> None:
    one, other, third = [export.name(path) for path in export.files()]
    client.delete_object(Bucket=BUCKET, Key=f"{PREFIX}/{one}")
    client.put_object(Bucket=BUCKET, Key=f"{PREFIX}/{other}", Body=(export.root / other).read_bytes()[:-1] + b"x")
    client.copy_object(
        Bucket=BUCKET, Key=f"{PREFIX}/{third}x.parquet", CopySource={"Bucket": BUCKET, "Key": f"{PREFIX}/{third}"}
    )
    client.delete_object(Bucket=BUCKET, Key=f"{PREFIX}/_cfaudit/manifests/{export.chain}/00000002.json")
    found = uploaded()
    assert found.exit_code == 1
    said = "\n".join(found.lines)
    for line in (
        "Manifest 00000002  INVALID: not found",
        f"{one}  INVALID: not found",
        "Of days that no manifest covers, and not proved: 1 file",
        f"{third}x.parquet  INVALID: no manifest names it",
    ):
        assert line in said, said
