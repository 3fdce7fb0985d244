"""S3: a sink that stores batches as Parquet objects, and a checkpoint store for machines without a disk.

Each UTC day of a batch becomes `PREFIX/account_id=ID/event_date=YYYY-MM-DD/BATCH.parquet`. `sink` has the promise and
how it is kept, `store` the same for checkpoints, `bucket` what both ask of S3.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from string import Formatter
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from cfaudit_export import CheckpointStorePlugin, SinkPlugin, hookimpl
from cfaudit_export.core.urls import is_safe, without_secrets

if TYPE_CHECKING:
    from cfaudit_s3.sink import S3Sink
    from cfaudit_s3.store import S3Store

__all__ = ["S3Access", "S3Config", "S3StoreConfig", "cfaudit_checkpoint_stores", "cfaudit_sinks"]

_PLACEHOLDERS = ("account_id", "source", "stream_id")
_SMALLEST_PART = 5 << 20
_LARGEST_PART = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Access:
    """How to reach a bucket. Credentials come from where every AWS tool looks for them, never from these settings.

    Attributes:
        bucket: the bucket; it must exist.
        prefix: put before every key; folders end with `/`.
        region: region of the bucket; by default what the environment or the profile says.
        endpoint_url: where the store is, unless it is AWS: `https://minio.example.com`.
        profile: name of a profile in the AWS configuration files.
        role_arn: role to assume; renewed for as long as a run lasts.
        external_id: external id that the role's trust policy asks for.
        sse: server-side encryption to ask for; `bucket` leaves it to the bucket's default.
        kms_key_id: KMS key for `aws:kms`; by default the account's own for S3.
        bucket_key: use a bucket key with `aws:kms`, which saves calls to KMS.
        checksum: of what is sent, for the store to verify; `auto` is SHA-256 on AWS and MD5, the oldest, elsewhere.
        path_style: put the bucket into the path and not into the host name; by default wherever the store is not AWS.
        attempts: how often a request is tried in all.
        timeout_seconds: how long one attempt may be silent; in all it may take twice that, and the time for its content
            at 32 KiB a second.
        insecure_http: whether events and signatures may travel unencrypted; never needed on the loopback.
    """

    bucket: str
    prefix: str = ""
    region: str | None = None
    endpoint_url: str | None = None
    profile: str | None = None
    role_arn: str | None = None
    external_id: str | None = None
    sse: Literal["bucket", "AES256", "aws:kms"] = "bucket"
    kms_key_id: str | None = None
    bucket_key: bool = True
    checksum: Literal["auto", "sha256", "crc32", "md5", "off"] = "auto"
    path_style: bool | None = None
    attempts: int = 5
    timeout_seconds: float = 60.0
    insecure_http: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class S3Config(S3Access):
    """What `[sinks.s3]` holds, beside the access.

    `prefix` may have the placeholders `{account_id}`, `{source}` and `{stream_id}`.

    Attributes:
        storage_class: of the data; by default the bucket's. It must be one that can be read at once.
        part_bytes: what is larger is sent in parts of this size.
    """

    storage_class: str | None = None
    part_bytes: int = 16 << 20

    def __post_init__(self) -> None:
        _verify(self)
        _verify_template(self.prefix)
        if not _SMALLEST_PART <= self.part_bytes <= _LARGEST_PART:
            raise ValueError(f"part_bytes must be from {_SMALLEST_PART} to {_LARGEST_PART}, not {self.part_bytes}")


@dataclass(frozen=True, slots=True, kw_only=True)
class S3StoreConfig(S3Access):
    """What `[checkpoint]` holds for `store = "s3"`, beside the access.

    Attributes:
        lease: how long a run that died keeps others from its stream; renewed while a run lives.
    """

    prefix: str = "_cfaudit/checkpoints/"
    lease: timedelta = timedelta(minutes=2)

    def __post_init__(self) -> None:
        _verify(self)
        if self.lease < timedelta(seconds=15):
            raise ValueError(f"lease must be at least 15s, not '{self.lease.total_seconds():g}s'")


@hookimpl
def cfaudit_sinks() -> Iterable[SinkPlugin]:
    """Offer the sink `s3`."""
    summary = "Parquet objects in S3, in folders by account and day"
    yield SinkPlugin("s3", S3Config, _build_sink, summary, "s3", destination=_destination)


@hookimpl
def cfaudit_checkpoint_stores() -> Iterable[CheckpointStorePlugin]:
    """Offer the checkpoint store `s3`."""
    yield CheckpointStorePlugin(
        "s3", S3StoreConfig, _build_store, "one JSON object per stream in S3, for machines without a disk", "s3"
    )


def _destination(config: S3Config) -> str:
    """Return bucket and prefix, and the store where it is not AWS."""
    where = f" at {config.endpoint_url.rstrip('/')}" if config.endpoint_url else ""
    return f"s3://{config.bucket}/{config.prefix}{where}"


def _build_sink(config: S3Config) -> S3Sink:
    from cfaudit_s3.sink import S3Sink  # boto3 and pyarrow are too heavy for a listing of plugins

    return S3Sink(config)


def _build_store(config: S3StoreConfig, _state: Path) -> S3Store:
    from cfaudit_s3.store import S3Store  # boto3 is too heavy for a listing of plugins

    return S3Store(config)


def _verify(access: S3Access) -> None:
    if not access.bucket:
        raise ValueError("bucket is empty; name the bucket")
    if access.prefix.startswith("/"):
        raise ValueError(f"prefix must not begin with '/', as '{access.prefix}' does")
    if access.kms_key_id and access.sse != "aws:kms":
        raise ValueError(f"kms_key_id needs sse = 'aws:kms', not '{access.sse}'")
    if access.external_id and not access.role_arn:
        raise ValueError("external_id needs role_arn")
    if access.attempts < 1:
        raise ValueError(f"attempts must be at least 1, not {access.attempts}")
    if access.timeout_seconds <= 0:
        raise ValueError(f"timeout_seconds must be positive, not {access.timeout_seconds:g}")
    if access.endpoint_url is not None:
        _verify_endpoint(access.endpoint_url)
        require_encryption(access.endpoint_url, access)


def _verify_endpoint(url: str) -> None:
    parts = urlsplit(url)
    if "@" in parts.netloc:  # not shown: what stands before it may be a password
        raise ValueError("endpoint_url must not hold credentials; put them into a profile or the environment")
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError(f"endpoint_url must be like 'https://minio.example.com', not '{url}'")


def require_encryption(url: str, access: S3Access) -> None:
    """Refuse an endpoint to which nothing secret may be sent.

    Raises:
        ValueError: it is one.
    """
    if not is_safe(url, insecure_http=access.insecure_http):
        raise ValueError(
            f"endpoint '{without_secrets(url)}' would get events and signatures unencrypted; use https, or set"
            " insecure_http = true"
        )


def _verify_template(prefix: str) -> None:
    try:
        fields = [(name, spec, form) for _, name, spec, form in Formatter().parse(prefix) if name is not None]
    except ValueError as error:
        raise ValueError(f"prefix '{prefix}' cannot be read: {error}") from None
    for name, spec, form in fields:
        if name not in _PLACEHOLDERS or spec or form:
            known = ", ".join(f"{{{known}}}" for known in _PLACEHOLDERS)
            raise ValueError(f"prefix has the placeholder '{{{name}}}'; known are {known}")
