"""Settings, and the client that they make."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from datetime import timedelta
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from botocore.awsrequest import AWSPreparedRequest, AWSResponse, HeadersDict

from cfaudit_export import Batch, LoadUnknownError, SettingsError, SinkError, SinkRefusedError
from cfaudit_export.http.aws import HANDLER
from cfaudit_export.plugin.config import to_config
from cfaudit_export.testing import make_batch
from cfaudit_s3 import S3Access, S3Config, S3StoreConfig, cfaudit_checkpoint_stores, cfaudit_sinks
from cfaudit_s3.client import checksum_of, connect, on_aws
from cfaudit_s3.wire import Faults, Wire


def client_of(**settings: Any) -> tuple[S3Access, Any]:
    access = S3Access(**({"bucket": "b", "region": "eu-central-1"} | settings))
    return access, connect(access)


def test_listing_the_plugin_loads_nothing_heavy() -> None:
    program = (
        "import sys, cfaudit_s3; list(cfaudit_s3.cfaudit_sinks()), list(cfaudit_s3.cfaudit_checkpoint_stores());"
        "print([name for name in ('boto3', 'botocore', 'pyarrow') if name in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_building_sends_and_reads_nothing() -> None:
    (sink,), (store,) = cfaudit_sinks(), cfaudit_checkpoint_stores()
    nowhere = {"bucket": "b", "profile": "nobody", "endpoint_url": "http://127.0.0.1:9"}
    sink.build(sink.config(**nowhere)).close()
    assert store.build(store.config(**nowhere), Path("/nowhere"))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({}, "'sinks.s3.bucket' is missing"),
        ({"bucket": ""}, "bucket is empty"),
        ({"prefix": "/audit"}, "prefix must not begin with '/'"),
        ({"prefix": "a/{day}/"}, r"placeholder '\{day\}'; known are \{account_id\}, \{source\}, \{stream_id\}"),
        ({"prefix": "a/{source.x}/"}, "placeholder"),
        ({"prefix": "a/{source!r}/"}, "placeholder"),
        ({"prefix": "a/{/"}, "cannot be read"),
        ({"sse": "KMS"}, "'sinks.s3.sse' must be one of AES256, aws:kms, bucket, not 'KMS'"),
        ({"kms_key_id": "k"}, "kms_key_id needs sse = 'aws:kms'"),
        ({"external_id": "x"}, "external_id needs role_arn"),
        ({"part_bytes": 1024}, "part_bytes must be from 5242880 to 1073741824, not 1024"),
        ({"attempts": 0}, "attempts must be at least 1"),
        ({"timeout_seconds": 0.0}, "timeout_seconds must be positive"),
        ({"endpoint_url": "http://minio.example.com"}, "unencrypted; use https, or set insecure_http = true"),
        ({"endpoint_url": "minio.example.com"}, "endpoint_url must be like 'https://minio.example.com'"),
        ({"endpoint": "x"}, "did you mean 'endpoint_url'"),
    ],
)
def test_settings_that_cannot_be_are_refused_at_once(settings: dict[str, Any], words: str) -> None:
    table = settings if not settings else {"bucket": "b"} | settings
    with pytest.raises(SettingsError, match=words):
        to_config(S3Config, table, "sinks.s3")


def test_credentials_in_an_endpoint_are_refused_and_not_shown() -> None:
    with pytest.raises(SettingsError, match="must not hold credentials") as refusal:
        to_config(S3Config, {"bucket": "b", "endpoint_url": "https://me:hunter2@minio"}, "sinks.s3")
    assert "hunter2" not in str(refusal.value)


def test_an_endpoint_without_encryption_is_used_where_the_settings_say_so() -> None:
    for config in (S3Config, S3StoreConfig):
        table = {"bucket": "b", "endpoint_url": "http://minio.example.com", "insecure_http": True}
        assert to_config(config, table, "sinks.s3").insecure_http


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"])
def test_an_endpoint_without_encryption_is_refused_from_the_environment_too(
    monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "http://minio.example.com")
    with pytest.raises(ValueError, match="unencrypted"):
        client_of()


def test_the_store_takes_its_lease_as_a_duration() -> None:
    config = to_config(S3StoreConfig, {"bucket": "b", "lease": "5m"}, "checkpoint")
    assert config.lease == timedelta(minutes=5)
    with pytest.raises(SettingsError, match="lease must be at least 15s, not '3s'"):
        to_config(S3StoreConfig, {"bucket": "b", "lease": "3s"}, "checkpoint")


@pytest.mark.parametrize(
    ("url", "aws"),
    [
        ("https://s3.eu-central-1.amazonaws.com", True),
        ("https://bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com", True),
        ("https://s3.cn-north-1.amazonaws.com.cn", True),
        ("https://amazonaws.com.example.com", False),
        ("https://account.r2.cloudflarestorage.com", False),
        ("http://127.0.0.1:9000", False),
    ],
)
def test_aws_is_told_from_other_stores(url: str, aws: bool) -> None:  # noqa: FBT001 - a parameter of the test
    assert on_aws(url) is aws


def test_on_aws_the_bucket_is_in_the_host_name_and_checksums_are_sha_256() -> None:
    access, client = client_of()
    assert client.meta.endpoint_url == "https://s3.eu-central-1.amazonaws.com"
    assert client.meta.config.s3["addressing_style"] == "auto"
    assert client.meta.config.request_checksum_calculation == "when_supported"
    assert checksum_of(access, client) == "sha256"


def test_elsewhere_the_bucket_is_in_the_path_and_checksums_are_the_oldest() -> None:
    access, client = client_of(endpoint_url="https://minio.example.com", region=None)
    assert client.meta.config.s3["addressing_style"] == "path"
    assert client.meta.config.request_checksum_calculation == "when_required"
    assert client.meta.config.response_checksum_validation == "when_required"
    assert client.meta.region_name == "us-east-1"
    assert checksum_of(access, client) == "md5"


class NoAnswer(BytesIO):
    """The body of an answer, as botocore reads it: empty."""

    def stream(self) -> Iterator[bytes]:
        return iter((self.read(),))


@pytest.mark.parametrize("checksum", ["auto", "sha256", "crc32", "md5", "off"])
@pytest.mark.parametrize("endpoint", [None, "https://minio.example.com"])
def test_no_content_is_sent_in_pieces_with_a_trailer(checksum: Any, endpoint: str | None) -> None:
    """Over https boto3 would send what it computes itself as a trailer, which stores of others store as content."""
    sent: list[AWSPreparedRequest] = []

    def answer(request: AWSPreparedRequest, **_: Any) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, HeadersDict({"ETag": '"1"'}), NoAnswer())

    access = S3Config(bucket="audit", region="eu-central-1", endpoint_url=endpoint, checksum=checksum)
    wire = Wire(access, Faults(SinkRefusedError, SinkError, LoadUnknownError))
    wire._client.meta.events.unregister("before-send", unique_id=HANDLER)  # it would ask the network
    wire._client.meta.events.register("before-send.s3", answer)
    for operation, more in (("put_object", {}), ("upload_part", {"UploadId": "u", "PartNumber": 1})):
        wire.ask(operation, "key", Body=b"content", **wire.checksum(b"content"), **more)
    wire.close()
    told = {"sha256": {"x-amz-checksum-sha256"}, "crc32": {"x-amz-checksum-crc32"}}
    kind = "sha256" if checksum == "auto" and endpoint is None else checksum
    for request in sent:
        names = {name.lower() for name in request.headers}
        assert request.body.read() == b"content"
        assert not {"x-amz-trailer", "content-encoding", "transfer-encoding"} & names
        assert {name for name in names if name.startswith("x-amz-checksum")} == told.get(kind, set())
    assert len(sent) == 2


def test_an_endpoint_in_the_environment_counts_like_one_in_the_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "https://minio.example.com")
    access, client = client_of()
    assert client.meta.endpoint_url == "https://minio.example.com"
    assert client.meta.config.s3["addressing_style"] == "path"
    assert checksum_of(access, client) == "md5"


def test_retries_and_timeouts_are_bounded() -> None:
    config = client_of(attempts=7, timeout_seconds=12.5)[1].meta.config
    assert config.retries == {"mode": "standard", "total_max_attempts": 7}
    assert (config.connect_timeout, config.read_timeout) == (10, 12.5)


# -- roles ----------------------------------------------------------------------------------------------------------

ROLE = "arn:aws:iam::123456789012:role/audit"


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return make_batch(tmp_path, rows=3)


def test_a_role_is_assumed_and_its_credentials_are_used(
    behind: Any, weather: Any, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", behind.url)
    behind.sink(role_arn=ROLE, external_id="abc").load(batch)
    users = [seen.headers["authorization"].split("Credential=")[1].split("/")[0] for seen in weather.seen]
    assert users[0] == "AKIDFORTESTS"
    assert weather.seen[0].path == "/"
    assert set(users[1:]) != {"AKIDFORTESTS"}
    assert len(set(users[1:])) == 1
    assert all("x-amz-security-token" in seen.headers for seen in weather.seen[1:])


def test_keys_of_a_role_never_travel_unencrypted(behind: Any, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", "http://sts.example.com")
    with pytest.raises(SinkRefusedError, match="'http://sts.example.com' would get events and signatures unencrypted"):
        behind.sink(role_arn=ROLE).load(batch)


def test_a_role_that_may_not_be_assumed_is_refused_by_name(
    behind: Any, weather: Any, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_STS", behind.url)
    weather.fate = lambda seen: (403, "AccessDenied") if seen.path == "/" else "pass"
    with pytest.raises(SinkRefusedError, match=f"not allowed to assume role '{ROLE}'.*grant sts:AssumeRole here"):
        behind.sink(role_arn=ROLE).load(batch)
