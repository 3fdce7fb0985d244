"""A fault of boto3 or S3 -> whether it is refused, failed or unknown, and a sentence that says what to do."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from botocore import exceptions as boto
from botocore.exceptions import ClientError
from botocore.parsers import ResponseParserError

from cfaudit_export.core.deadline import DeadlineError
from cfaudit_s3 import S3Access
from cfaudit_s3.answers import NOT_OF_S3

Kind = Literal["refused", "failed", "unknown"]
"""`refused` until settings or rights change, `failed` for now, `unknown` whether it was done."""


class Verdict(NamedTuple):
    """What a fault means: its kind, and the words for it."""

    kind: Kind
    words: str


_RIGHTS = {
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    # Without the right to list, S3 answers alike for what is not there and for what may not be read.
    "get_object": "s3:GetObject and s3:ListBucket",
    "head_object": "s3:GetObject and s3:ListBucket",
    "delete_object": "s3:DeleteObject",
    "list_objects_v2": "s3:ListBucket",
}
_WRITES = {"put_object", "complete_multipart_upload"}

_STRANGE = "the answer is not one of S3: is there a proxy, a sign-in page or another server at that endpoint?"
_CREDENTIALS = "check the credentials: environment, profile, or role"
_REFUSALS = {
    "InvalidAccessKeyId": f"the access key is not known there; {_CREDENTIALS}",
    "SignatureDoesNotMatch": f"the secret key is wrong; {_CREDENTIALS}",
    "ExpiredToken": "the credentials have expired; sign in again",
    "ExpiredTokenException": "the credentials have expired; sign in again",
    "TokenRefreshRequired": "the credentials have expired; sign in again",
    "InvalidToken": f"the session token is not accepted; {_CREDENTIALS}",
    "InvalidClientTokenId": f"the access key is not known there; {_CREDENTIALS}",
    "RequestTimeTooSkewed": "this machine's clock is wrong; set it",
    "InvalidObjectState": "the object is archived; restore it, and archive nothing below _cfaudit/",
    "NoSuchBucket": "there is no such bucket; create it, or set another one",
    "PermanentRedirect": "the bucket is in another region; set region",
    "AuthorizationHeaderMalformed": "the bucket is in another region; set region",
    "InvalidStorageClass": "this store has no such storage class; set another storage_class",
    "NotImplemented": "this store cannot do that; change sse, storage_class or checksum",
}
# Codes with a status that would say otherwise.
_FAILURES = {
    "BadDigest",
    "ConditionalRequestConflict",
    "IncompleteBody",
    "OperationAborted",
    "RequestLimitExceeded",
    "RequestTimeout",
    "RequestTimeoutException",
    "SlowDown",
    "Throttling",
    "ThrottlingException",
    "TooManyRequests",
    "XAmzContentSHA256Mismatch",
}
_UNREACHED = (boto.EndpointConnectionError, boto.ConnectTimeoutError, boto.ProxyConnectionError, boto.SSLError)
_NO_CREDENTIALS = (boto.NoCredentialsError, boto.PartialCredentialsError, boto.CredentialRetrievalError)


def judge(error: Exception, operation: str, access: S3Access) -> Verdict:
    """Return what an exception of boto3 means; `operation` is boto3's name for what was asked."""
    if isinstance(error, ClientError):
        return _judge_answer(error, operation, access)
    if isinstance(error, _UNREACHED):
        return Verdict("failed", f"the store cannot be reached ({one_line(error)}); try again later")
    if isinstance(error, (DeadlineError, boto.HTTPClientError, boto.ResponseStreamingError, boto.IncompleteReadError)):
        kind: Kind = "unknown" if operation in _WRITES else "failed"
        return Verdict(kind, f"the answer was lost ({one_line(error)}); try again later")
    if isinstance(error, ResponseParserError):
        return Verdict("failed", f"{_STRANGE} ({one_line(error)}); try again later")
    if isinstance(error, _NO_CREDENTIALS):
        return Verdict("refused", f"no usable credentials ({one_line(error)}); {_CREDENTIALS}")
    return Verdict("refused", f"{one_line(error)}; change the settings")


def status_of(error: ClientError) -> int:
    """Return the HTTP status of an answer."""
    status: int = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status


def code_of(error: ClientError) -> str:
    """Return S3's code of an answer; of an answer without a body only its status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def is_foreign(error: ClientError) -> bool:
    """Say whether an answer lacks the code that S3 gives with every error that has a body."""
    code = code_of(error)
    return not code or code.isdecimal()


def one_line(text: Any) -> str:
    """Return what a server or library said as one printable line."""
    line = " ".join(str(text).split())
    return "".join(mark if mark.isprintable() else "?" for mark in line)[:500]


def _judge_answer(error: ClientError, operation: str, access: S3Access) -> Verdict:
    status, code = status_of(error), code_of(error)
    said = one_line(f"{status} {code}: {error.response.get('Error', {}).get('Message', '')}")
    if error.operation_name.startswith("AssumeRole"):
        return _judge_role(status, said, access)
    if code == NOT_OF_S3:
        return Verdict("unknown" if operation in _WRITES else "failed", f"{_STRANGE} ({said}); try again later")
    if code in _FAILURES or status in {408, 429} or (status >= 500 and status != 501):
        return Verdict("failed", f"the store cannot take it now ({said}); try again later")
    # The answer to HEAD never has a code, so that only what it would be trusted for is doubted.
    if is_foreign(error) and status not in {401, 403} and (operation != "head_object" or status == 404):
        return Verdict("failed", f"{_STRANGE} ({said}); try again later")
    return Verdict("refused", _advice(status, code, said, _rights(error, operation, access)))


def _advice(status: int, code: str, said: str, rights: str) -> str:
    if code.startswith("KMS."):
        return f"{said}; grant kms:GenerateDataKey and kms:Decrypt on a key that is enabled"
    if code in _REFUSALS:
        return f"{_REFUSALS[code]} ({said})"
    if status in {401, 403}:
        return f"not allowed ({said}); grant {rights}"
    return f"the store refuses it ({said}); change the settings"


def _rights(error: ClientError, operation: str, access: S3Access) -> str:
    rights = _RIGHTS.get(operation, error.operation_name)
    return f"{rights}, and kms:GenerateDataKey and kms:Decrypt on the key" if access.sse == "aws:kms" else rights


def _judge_role(status: int, said: str, access: S3Access) -> Verdict:
    if status == 429 or status >= 500:
        return Verdict("failed", f"role '{access.role_arn}' cannot be assumed now ({said}); try again later")
    return Verdict(
        "refused",
        f"not allowed to assume role '{access.role_arn}' ({said}); grant sts:AssumeRole here, and trust there",
    )
