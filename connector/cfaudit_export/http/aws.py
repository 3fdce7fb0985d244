"""Replies to clients of boto3 that end: botocore limits each silence of a peer, and no reply's size.

A handler of botocore's event `before-send` may answer in the place of its own HTTP session. This one asks with another
session of the same settings, and reads what comes piece by piece. It imports botocore only when it is called.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from io import BytesIO
from typing import Any

HANDLER = "cfaudit-bounded"
"""Name of the handler."""
MOST_REPLY_BYTES = 4_000_000
"""The most bytes of a reply that is no object. A list of 1,000 names of 1,024 bytes each, as S3 has them at most, has
fewer, and reading XML of more would take more memory than an export may."""
_PIECE_BYTES = 1 << 16


def bound_replies(client: Any, profile: str | None = None, most_bytes: int = MOST_REPLY_BYTES) -> Callable[[], None]:
    """Let no reply to a client of boto3 be larger than `most_bytes`; the bodies of objects are left to who reads them.

    Register it behind handlers that look at requests, as it answers them.

    Args:
        client: of boto3 or botocore.
        profile: whose `ca_bundle` says which certificates to trust, where the environment does not.
        most_bytes: of a reply. A larger one is left, and `botocore.parsers.ResponseParserError` says so.

    Returns:
        What closes the connections.
    """
    from botocore.awsrequest import AWSResponse
    from botocore.httpsession import URLLib3Session
    from botocore.parsers import ResponseParserError
    from botocore.response import StreamingBody
    from botocore.session import Session
    from botocore.utils import get_environ_proxies

    config = client.meta.config
    session = URLLib3Session(
        verify=_trusted(Session(profile=profile)),
        proxies=get_environ_proxies(client.meta.endpoint_url) if config.proxies is None else config.proxies,
        timeout=(config.connect_timeout, config.read_timeout),
        max_pool_connections=config.max_pool_connections,
        client_cert=config.client_cert,
        proxies_config=config.proxies_config,
    )

    def answered(request: Any, **_: Any) -> Any:
        is_object, request.stream_output = request.stream_output, True  # it would be read whole
        reply = session.send(request)
        if is_object and reply.status_code < 300:
            return reply
        body, content = StreamingBody(reply.raw, None), bytearray()
        while piece := body.read(_PIECE_BYTES):
            content += piece
            if len(content) > most_bytes:
                body.close()
                raise ResponseParserError(f"the reply is larger than {most_bytes:,} bytes")
        return AWSResponse(reply.url, reply.status_code, reply.headers, _Read(bytes(content)))

    client.meta.events.register_last("before-send", answered, unique_id=HANDLER)
    close: Callable[[], None] = session.close
    return close


class _Read(BytesIO):
    """The content of a reply that was read, as botocore reads it."""

    def stream(self) -> Iterator[bytes]:
        """Yield all of it."""
        yield self.read()


def _trusted(session: Any) -> str | bool:
    """Return the certificates that a client of boto3 trusts: a file of the settings of AWS tools, or True for its own.

    The environment's `REQUESTS_CA_BUNDLE` is looked at by botocore's endpoints, after `AWS_CA_BUNDLE` and the profile.
    """
    return session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE") or True
