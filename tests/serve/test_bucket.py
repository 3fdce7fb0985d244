"""An archive in a bucket: the same answers as from a folder."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterator
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cfaudit_export.serve.order import ServeOrder
from cfaudit_export.settings import Settings

REGION = "eu-central-1"


@pytest.fixture
def endpoint(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An S3 server; nothing of this machine's AWS configuration is seen."""
    for name in [one for one in os.environ if one.startswith("AWS_")]:
        monkeypatch.delenv(name)
    given = {"ACCESS_KEY_ID": "test", "SECRET_ACCESS_KEY": "test", "DEFAULT_REGION": REGION, "CONFIG_FILE": os.devnull}
    for name, value in given.items():
        monkeypatch.setenv(f"AWS_{name}", value)
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


def test_a_bucket_answers_as_the_folder_does(
    endpoint: str, served: Any, asked: Callable[[ServeOrder], Callable[..., dict[str, Any]]]
) -> None:
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="audit", CreateBucketConfiguration={"LocationConstraint": REGION})
    for path in served.folder.rglob("*.parquet"):
        client.upload_file(str(path), "audit", f"logs/{path.relative_to(served.folder)}")
    s3 = {"bucket": "audit", "prefix": "logs/", "endpoint_url": endpoint, "region": REGION}
    # The files are those of the sink `parquet`, whose checkpoint says what was exported.
    settings = Settings(state_dir=served.state, sink=("parquet",), sinks={"s3": s3})
    far, near = asked(ServeOrder(settings, "s3://audit/logs")), asked(served.order())
    day = {"since": "2026-11-18", "before": "2026-11-19"}
    for tool in ("audit_events", "audit_timeline", "audit_report", "audit_findings"):
        assert json.dumps(far(tool, **day)) == json.dumps(near(tool, **day)), tool
