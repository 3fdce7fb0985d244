"""Settings -> a boto3 client for the bucket: credentials, role, endpoint, checksums, limits on retries."""

from __future__ import annotations

from functools import partial
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore.config import Config
from botocore.credentials import AssumeRoleCredentialFetcher, DeferredRefreshableCredentials
from botocore.exceptions import NoCredentialsError
from botocore.session import Session

from cfaudit_export.http.aws import bound_replies
from cfaudit_export.http.echoes import hide_session_tokens
from cfaudit_s3 import S3Access, require_encryption
from cfaudit_s3.answers import unmask

_AWS = (".amazonaws.com", ".amazonaws.com.cn", ".api.aws", ".amazonaws.eu")
_CONNECT_SECONDS = 10


def connect(access: S3Access) -> Any:
    """Return a client. Nothing is sent yet, but configuration files are read.

    Raises:
        BotoCoreError, ValueError: a profile, a region or an endpoint does not exist or makes no sense.
    """
    client = _client(access, elsewhere=access.endpoint_url is not None and not on_aws(access.endpoint_url))
    if access.endpoint_url is None and not on_aws(client.meta.endpoint_url):
        client.close()  # the environment or the profile names an endpoint of its own
        client = _client(access, elsewhere=True)
    require_encryption(client.meta.endpoint_url, access)
    return client


def on_aws(url: str) -> bool:
    """Say whether an endpoint is one of AWS; other stores get no newer feature of S3 that they may not know."""
    return (urlsplit(url).hostname or "").endswith(_AWS)


def checksum_of(access: S3Access, client: Any) -> str:
    """Return the checksum to send: `sha256`, `crc32`, `md5` or `off`."""
    if access.checksum != "auto":
        return access.checksum
    return "sha256" if on_aws(client.meta.endpoint_url) else "md5"


def _client(access: S3Access, *, elsewhere: bool) -> Any:
    # Only AWS knows the checksums that boto3 would add on its own.
    when = "when_required" if elsewhere or access.checksum in {"md5", "off"} else "when_supported"
    path_style = access.path_style if access.path_style is not None else elsewhere
    config = Config(
        retries={"mode": "standard", "total_max_attempts": access.attempts},
        connect_timeout=_CONNECT_SECONDS,
        read_timeout=access.timeout_seconds,
        request_checksum_calculation=when,
        response_checksum_validation=when,
        s3={"addressing_style": "path" if path_style else "auto"},
        user_agent_extra=f"cfaudit-export/{version('cfaudit-export')}",
    )
    session = boto3.Session(botocore_session=_session(access), region_name=access.region)
    region = access.region or session.region_name or ("us-east-1" if elsewhere else None)
    client = session.client("s3", region_name=region, endpoint_url=access.endpoint_url, config=config)
    client.meta.events.register("before-parse.s3.*", unmask)
    hide_session_tokens(client)
    return client


def _session(access: S3Access) -> Session:
    session = Session(profile=access.profile)
    if access.role_arn:
        credentials = _role(access, session)
        assumed = Session(profile=access.profile)
        resolver = SimpleNamespace(load_credentials=lambda: credentials)
        assumed.register_component("credential_provider", resolver)
        return assumed
    return session


def _encrypted_client(session: Session, access: S3Access, *names: str, **options: Any) -> Any:
    """Return a client for what gives out keys; the environment may have named its endpoint."""
    client = session.create_client(*names, **options)
    require_encryption(client.meta.endpoint_url, access)
    hide_session_tokens(client)
    bound_replies(client, access.profile)
    return client


def _role(access: S3Access, session: Session) -> DeferredRefreshableCredentials:
    """Return the credentials of the role, fetched when first needed and again before they expire."""
    source = session.get_credentials()
    if source is None:
        raise NoCredentialsError
    region = access.region or session.get_config_variable("region") or "us-east-1"
    extra = {"RoleSessionName": "cfaudit-export"}
    if access.external_id:
        extra["ExternalId"] = access.external_id
    fetcher = AssumeRoleCredentialFetcher(
        client_creator=partial(_encrypted_client, session, access, region_name=region),
        source_credentials=source,
        role_arn=access.role_arn,
        extra_args=extra,
    )
    return DeferredRefreshableCredentials(refresh_using=fetcher.fetch_credentials, method="assume-role")
