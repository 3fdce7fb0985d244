"""The same answers from a bucket, over HTTP, and clear words where it cannot be read."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest
from moto.server import ThreadedMotoServer

from cfaudit_export.analysis.files import s3 as module
from cfaudit_export.analysis.files.database import EventDatabase, open_data
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.core.model import Window
from cfaudit_export.errors import AccessError, SettingsError, TryAgainError, UsageError

DAYS = [datetime(2026, 11, day, 12, tzinfo=UTC) for day in range(1, 6)]
REGION = "eu-central-1"


@pytest.fixture(scope="module")
def endpoint() -> Iterator[str]:
    """An S3 server, and an environment in which nothing of this machine's AWS configuration is seen."""
    given = {
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test-secret",
        "AWS_DEFAULT_REGION": REGION,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": "/dev/null",
        "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    }
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("AWS_"):
                patch.delenv(name)
        for name, value in given.items():
            patch.setenv(name, value)
        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
        server.start()
        host, port = server.get_host_and_port()
        yield f"http://{host}:{port}"
        server.stop()


@pytest.fixture(scope="module")
def bucket(endpoint: str, tmp_path_factory: pytest.TempPathFactory, store_rows: Callable[..., Path]) -> Any:
    """A bucket with the events of five days below `logs/prod/`."""
    rows = [
        {"event_time": day + timedelta(minutes=minute), "actor_email": f"u{minute}@example.com"}
        for day in DAYS
        for minute in range(20)
    ]
    root = store_rows(tmp_path_factory.mktemp("bucket"), rows)
    client = boto3.client("s3", endpoint_url=endpoint)
    client.create_bucket(Bucket="audit", CreateBucketConfiguration={"LocationConstraint": REGION})
    for path in root.rglob("*.parquet"):
        client.upload_file(str(path), "audit", f"logs/prod/{path.relative_to(root)}")
    client.put_object(Bucket="audit", Key="logs/prod/_cfaudit/batches/x.json", Body=b"{}")
    client.put_object(Bucket="audit", Key="logs/prod/_cfaudit/x.parquet", Body=b"no events")
    client.put_object(Bucket="audit", Key="logs/prod/account_id=x/event_date=2026-11-01/half.parquet", Body=b"PAR1")
    client.put_object(Bucket="audit", Key="logs/prod/stray.parquet", Body=b"PAR1")
    return client


@pytest.fixture
def opened(bucket: Any, endpoint: str) -> Iterator[Callable[..., EventDatabase]]:
    found: list[EventDatabase] = []

    def open_url(url: str, *args: Any, **options: Any) -> EventDatabase:
        place = open_location(url, {"endpoint_url": endpoint} | options)
        found.append(open_data(place, *args))
        return found[-1]

    yield open_url
    for one in found:
        one.__exit__()


def test_events_are_read_from_a_bucket(opened: Callable[..., EventDatabase]) -> None:
    data = opened("s3://audit/logs/prod")
    assert data.ask("SELECT count(*) AS n, count(DISTINCT event_date) AS days FROM audit_events") == [
        {"n": 100, "days": 5}
    ]
    reasons = {one.name: one.why for one in data.listing.ignored}
    assert set(reasons) == {"account_id=x/event_date=2026-11-01/half.parquet", "stray.parquet"}
    assert opened("s3://audit/logs/prod/").rows == opened("s3://audit").rows == opened("s3://audit/logs").rows == 100


def test_a_question_about_a_day_asks_for_the_objects_of_that_day_alone(
    opened: Callable[..., EventDatabase], bucket: Any, endpoint: str
) -> None:
    window = Window(DAYS[1], DAYS[1] + timedelta(minutes=5))
    data = opened("s3://audit/logs/prod", window)
    assert {one.day for one in data.listing.files} == {"2026-11-01", "2026-11-02", "2026-11-03"}
    assert data.ask("SELECT count(*) AS n FROM audit_events") == [{"n": 5}]
    everything = opened("s3://audit/logs/prod")
    [key] = [one.found.path for one in everything.listing.files if one.day == "2026-11-01"]
    kept = bucket.get_object(Bucket="audit", Key=key)["Body"].read()
    bucket.delete_object(Bucket="audit", Key=key)
    try:
        query = "SELECT max(actor_email) AS top FROM audit_events WHERE event_time >= '2026-11-02'"
        assert everything.ask(query) == [{"top": "u9@example.com"}]
        with pytest.raises(TryAgainError, match="were replaced while they were read"):
            everything.ask("SELECT max(actor_email) FROM audit_events")
    finally:
        bucket.put_object(Bucket="audit", Key=key, Body=kept)


def test_the_endpoint_may_stand_in_the_environment_or_in_a_profile(
    bucket: Any, endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    assert len(list(open_location("s3://audit/logs/prod").files(lambda _: True))) == 7
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    config = tmp_path / "config"
    config.write_text(
        f"[profile work]\nregion = {REGION}\nendpoint_url = {endpoint}\n"
        "aws_access_key_id = test\naws_secret_access_key = test-secret\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(config))
    assert len(list(open_location("s3://audit/logs/prod", {"profile": "work"}).files(lambda _: True))) == 7
    monkeypatch.setenv("AWS_PROFILE", "work")
    assert len(list(open_location("s3://audit/logs/prod").files(lambda _: True))) == 7


def test_a_role_is_assumed_where_one_is_set(bucket: Any, endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    place = open_location(
        "s3://audit/logs/prod", {"role_arn": "arn:aws:iam::123456789012:role/reader", "external_id": "xy"}
    )
    assert len(list(place.files(lambda _: True))) == 7


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL_STS"])
def test_events_and_keys_do_not_travel_unencrypted_without_a_setting(
    variable: str, endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", endpoint)
    monkeypatch.setenv(variable, "http://store.example.com")
    role = {"role_arn": "arn:aws:iam::123456789012:role/reader"} if variable.endswith("STS") else {}
    with pytest.raises(SettingsError, match=r"in clear text to 'http://store\.example\.com'.*insecure_http = true"):
        open_location("s3://audit/logs", role)
    if not role:
        open_location("s3://audit/logs", {"insecure_http": True})  # nothing is asked before it is listed


def test_credentials_that_do_not_come_are_waited_for_only_so_long(
    endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_CREDENTIAL_SECONDS", 0.0)
    with pytest.raises(TryAgainError, match="credentials for S3 did not come: not finished within 0 s"):
        open_location("s3://audit/logs", {"endpoint_url": endpoint})


def test_what_is_not_there_is_named(opened: Callable[..., EventDatabase]) -> None:
    with pytest.raises(UsageError, match="there is nothing at 's3://audit/nowhere'"):
        opened("s3://audit/nowhere")
    with pytest.raises(SettingsError, match="bucket does not exist"):
        opened("s3://no-such-bucket/x")
    with pytest.raises(UsageError, match="expected s3://bucket/prefix"):
        opened("s3://")


def test_without_credentials_it_says_so(monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    with pytest.raises(AccessError, match="no credentials for S3"):
        open_location("s3://audit/logs")
    with pytest.raises(SettingsError, match="S3 cannot be used: The config profile"):
        open_location("s3://audit/logs", {"profile": "nobody"})


def test_a_store_that_cannot_be_reached_is_a_passing_fault(endpoint: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}"
        place = open_location("s3://audit/logs", {"endpoint_url": url, "attempts": 1})
        with pytest.raises(TryAgainError, match="cannot be reached"):
            open_data(place)
