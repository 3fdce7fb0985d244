"""`s3://bucket/prefix` -> a place. Credentials and endpoint are found as every AWS tool finds them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from cfaudit_export.analysis.files.location import S3, FoundFile, Location, is_visible
from cfaudit_export.core.deadline import Deadline, DeadlineError
from cfaudit_export.core.urls import check_secret_url
from cfaudit_export.errors import AccessError, SettingsError, TryAgainError, UsageError

_CREDENTIAL_SECONDS = 60.0
_CONNECT_SECONDS = 10
_REQUEST_SECONDS = 60
_ATTEMPTS = 5


def open_bucket(url: str, options: Mapping[str, Any]) -> Location:
    """Return the place; as `open_place`."""
    bucket, _, prefix = url.removeprefix(S3).partition("/")
    if not bucket:
        raise UsageError(f"--data: expected s3://bucket/prefix, not '{url}'")
    root = "/".join(part for part in (bucket, prefix.strip("/")) if part)
    filesystem = _filesystem(options)
    return Location(url, root, filesystem, lambda wanted: _listed(filesystem, root, url, wanted))


def _filesystem(options: Mapping[str, Any]) -> Any:
    """Return the file system. boto3 finds what to use: Arrow's own client knows neither profiles nor endpoints."""
    try:
        import boto3
        from botocore.exceptions import BotoCoreError
    except ImportError:
        raise SettingsError("S3 is not installed: pip install 'cfaudit-export[s3]'") from None
    from pyarrow.fs import AwsStandardS3RetryStrategy, S3FileSystem

    def found() -> tuple[Any, dict[str, str]]:
        session = boto3.Session(profile_name=options.get("profile"), region_name=options.get("region"))
        endpoint = options.get("endpoint_url")
        client = session.client("s3", region_name=session.region_name or "us-east-1", endpoint_url=endpoint)
        _require_encryption(client, options)
        return client.meta, _role(session, options) if options.get("role_arn") else _keys(session)

    try:
        # They may come from a service or a program, and boto3 limits each silence of it alone.
        meta, keys = Deadline.after(_CREDENTIAL_SECONDS).run(found)
    except DeadlineError as error:
        raise TryAgainError(f"credentials for S3 did not come: {error}; try again") from error
    except (BotoCoreError, ValueError) as error:
        raise SettingsError(f"S3 cannot be used: {error}") from error
    elsewhere = not meta.endpoint_url.endswith((".amazonaws.com", ".amazonaws.com.cn"))
    return S3FileSystem(
        **keys,
        region=meta.region_name,
        endpoint_override=meta.endpoint_url if elsewhere else None,
        connect_timeout=_CONNECT_SECONDS,
        request_timeout=_REQUEST_SECONDS,
        retry_strategy=AwsStandardS3RetryStrategy(max_attempts=_ATTEMPTS),
    )


def _require_encryption(client: Any, options: Mapping[str, Any]) -> None:
    """Refuse an endpoint, which the environment may have named, that would send events or keys unencrypted."""
    allow = "set insecure_http = true in [sinks.s3]"
    insecure_http = bool(options.get("insecure_http"))
    check_secret_url(client.meta.endpoint_url, "events and signatures", allow=allow, insecure_http=insecure_http)


def _keys(session: Any) -> dict[str, str]:
    if (credentials := session.get_credentials()) is None:
        raise AccessError("no credentials for S3 were found; set AWS_PROFILE, or what else your AWS tools use")
    frozen = credentials.get_frozen_credentials()
    return {"access_key": frozen.access_key, "secret_key": frozen.secret_key, "session_token": frozen.token}


def _role(session: Any, options: Mapping[str, Any]) -> dict[str, str]:
    """Return credentials of the role; they last an hour, and no answer takes that long."""
    from botocore.exceptions import BotoCoreError, ClientError

    extra = {"ExternalId": options["external_id"]} if options.get("external_id") else {}
    try:
        sts = session.client("sts", region_name=session.region_name or "us-east-1")
        _require_encryption(sts, options)
        answer = sts.assume_role(RoleArn=options["role_arn"], RoleSessionName="cfaudit-export", **extra)
    except (BotoCoreError, ClientError) as error:
        raise AccessError(f"role '{options['role_arn']}' cannot be assumed: {error}") from error
    found = answer["Credentials"]
    return {
        "access_key": found["AccessKeyId"],
        "secret_key": found["SecretAccessKey"],
        "session_token": found["SessionToken"],
    }


def _listed(filesystem: Any, root: str, url: str, wanted: Callable[[str], bool]) -> Iterator[FoundFile]:
    """Yield what is wanted of the whole list: with a thousand names an answer, that beats asking folder by folder."""
    from pyarrow.fs import FileSelector

    try:
        infos = filesystem.get_file_info(FileSelector(root, recursive=True))
    except FileNotFoundError:
        raise UsageError(f"there is nothing at '{url}'; say where the exported files are") from None
    for info in sorted(infos, key=lambda one: str(one.path)):
        name = info.path[len(root) + 1 :]
        *folders, last = name.split("/")
        visible = info.is_file and last.endswith(".parquet") and all(map(is_visible, (*folders, last)))
        if visible and all(map(wanted, folders)):
            yield FoundFile(name, info.path, info.size)
