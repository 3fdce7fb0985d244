"""`s3://bucket/prefix` -> a place. Credentials and endpoint are found as every AWS tool finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cfaudit_export.analysis.files.bucket import MOST_AT_ONCE, BucketReader
from cfaudit_export.analysis.files.location import S3, FoundFile, Location, is_visible
from cfaudit_export.core.deadline import Deadline, DeadlineError
from cfaudit_export.core.installing import install_command
from cfaudit_export.core.urls import check_secret_url
from cfaudit_export.errors import AccessError, SettingsError, TryAgainError, UsageError
from cfaudit_export.http.aws import bound_replies
from cfaudit_export.http.echoes import hide_session_tokens

_CREDENTIAL_SECONDS = 60.0
_CONNECT_SECONDS = 10
_SILENT_SECONDS = 60.0
_ATTEMPTS = 5


def open_bucket(url: str, options: Mapping[str, Any]) -> Location:
    """Return the place; as `open_location`."""
    name, _, prefix = url.removeprefix(S3).partition("/")
    if not name:
        raise UsageError(f"--data: expected s3://bucket/prefix, not '{url}'")
    prefix = prefix.strip("/")
    silent_seconds = float(options.get("timeout_seconds", _SILENT_SECONDS))
    attempts = int(options.get("attempts", _ATTEMPTS))
    client = _client(options, silent_seconds, attempts)
    bucket = BucketReader(name, url, client, silent_seconds=silent_seconds, attempts=attempts)
    return Location(
        url,
        f"{name}/{prefix}".rstrip("/"),
        None,
        lambda wanted: _listed(bucket, prefix, wanted),
        lambda folder: _below(bucket, "/".join(filter(None, [prefix, folder]))),
        bucket.open,
    )


def _client(options: Mapping[str, Any], silent_seconds: float, attempts: int) -> Any:
    """Return a client of boto3, which knows the profiles, the roles and the endpoints of AWS tools."""
    try:
        import boto3
        from botocore.config import Config
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise SettingsError(f"S3 is not installed: run {install_command('s3')}") from None

    def connected() -> Any:
        session = boto3.Session(profile_name=options.get("profile"), region_name=options.get("region"))
        common = {"region_name": session.region_name or "us-east-1", "endpoint_url": options.get("endpoint_url")}
        endpoint = session.client("s3", **common).meta.endpoint_url
        path_style = options.get("path_style", not endpoint.endswith((".amazonaws.com", ".amazonaws.com.cn")))
        config = Config(
            retries={"mode": "standard", "total_max_attempts": attempts},
            connect_timeout=_CONNECT_SECONDS,
            read_timeout=silent_seconds,
            max_pool_connections=MOST_AT_ONCE,
            # Pages of files have checksums of their own, and only AWS knows those that boto3 would ask for.
            response_checksum_validation="when_required",
            s3={"addressing_style": "path" if path_style else "auto"},
        )
        role = _role(session, options) if options.get("role_arn") else {}
        if not role and session.get_credentials() is None:
            raise AccessError("no credentials for S3 were found; set AWS_PROFILE, or what else your AWS tools use")
        client = session.client("s3", **common, **role, config=config)
        hide_session_tokens(client)
        _require_encryption(client, options)
        bound_replies(client, options.get("profile"))
        return client

    try:
        # They may come from a service or a program, and boto3 limits each silence of it alone.
        return Deadline.after(_CREDENTIAL_SECONDS).run(connected)
    except DeadlineError as error:
        raise TryAgainError(f"credentials for S3 did not come: {error}; try again") from error
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"S3 cannot be used: {error}") from error


def _require_encryption(client: Any, options: Mapping[str, Any]) -> None:
    """Refuse an endpoint, which the environment may have named, that would send events or keys unencrypted."""
    allow = "set insecure_http = true in [sinks.s3]"
    insecure_http = bool(options.get("insecure_http"))
    check_secret_url(client.meta.endpoint_url, "events and signatures", allow=allow, insecure_http=insecure_http)


def _role(session: Any, options: Mapping[str, Any]) -> dict[str, str]:
    """Return credentials of the role; they last an hour, and no answer takes that long."""
    from botocore.exceptions import BotoCoreError, ClientError

    extra = {"ExternalId": options["external_id"]} if options.get("external_id") else {}
    try:
        sts = session.client("sts", region_name=session.region_name or "us-east-1")
        hide_session_tokens(sts)
        _require_encryption(sts, options)
        bound_replies(sts, options.get("profile"))
        answer = sts.assume_role(RoleArn=options["role_arn"], RoleSessionName="cfaudit-export", **extra)
    except (BotoCoreError, ClientError) as error:
        raise AccessError(f"role '{options['role_arn']}' cannot be assumed: {error}") from error
    found = answer["Credentials"]
    return {
        "aws_access_key_id": found["AccessKeyId"],
        "aws_secret_access_key": found["SecretAccessKey"],
        "aws_session_token": found["SessionToken"],
    }


def _listed(bucket: BucketReader, prefix: str, wanted: Callable[[str], bool]) -> Iterator[FoundFile]:
    """Yield what is wanted of the whole list: with a thousand names an answer, that beats asking folder by folder."""
    below = f"{prefix}/" if prefix else ""
    listed = bucket.objects(below)
    if not listed:
        raise UsageError(f"there is nothing at '{bucket.shown}'; say where the exported files are")
    for one in listed:
        name = one["Key"][len(below) :]
        *folders, last = name.split("/")
        visible = last.endswith(".parquet") and all(map(is_visible, (*folders, last)))
        if visible and all(map(wanted, folders)):
            yield FoundFile(name, one["Key"], one["Size"], version=one["ETag"])


def _below(bucket: BucketReader, prefix: str) -> Iterator[FoundFile]:
    """Yield every object below a prefix."""
    below = f"{prefix}/" if prefix else ""
    for one in bucket.objects(below):
        if not one["Key"].endswith("/"):  # consoles make such for what looks like a folder
            yield FoundFile(one["Key"][len(below) :], one["Key"], one["Size"], version=one["ETag"])
