"""The form that answers of S3 have. What has another one was said by a proxy or a portal, and proves nothing.

A portal answers any request with 200 and a page, a proxy that breaks with 200 and nothing; botocore takes the one as
readily as the other for an object that is stored. So an answer is believed only where it has what the API reference
of S3 says that every answer to this request has.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

NOT_OF_S3 = "NotAnAnswerOfS3"
"""The code of the error that takes the place of such an answer; botocore asks again, as after any error 500."""

_ROOT = re.compile(rb"\s*(?:<\?xml[^>]*>\s*)?<(?:\w+:)?(\w+)[\s/>]")
_MARK = re.compile(r"[^\s\"/]")
# Operation -> the document that it is answered with, and the element of it that says what came of it.
_DOCUMENTS = {
    "CreateMultipartUpload": (b"InitiateMultipartUploadResult", b"UploadId"),
    "CompleteMultipartUpload": (b"CompleteMultipartUploadResult", b"ETag"),
    "ListObjectsV2": (b"ListBucketResult", b""),
}
_SILENT = {"PutObject", "UploadPart"}
_MARKED = {"PutObject", "UploadPart", "GetObject", "HeadObject"}
_GONE = {"DeleteObject", "AbortMultipartUpload"}


def normal_etag(etag: str) -> str:
    """Return an ETag as RFC 9110, section 8.8.3, writes a strong one.

    Some stores, and some proxies before them, leave out the quotes in one answer and not in the other, or call it weak.
    """
    return f'"{etag.removeprefix("W/").strip(chr(34))}"'


def unmask(operation_model: Any, response_dict: dict[str, Any], **_: Any) -> None:
    """Make an error of an answer that is called a success and cannot be the store's: a handler of `before-parse.s3`."""
    if not 200 <= response_dict["status_code"] < 300:
        return
    body = response_dict["body"]
    flaw = _flaw(operation_model.name, response_dict["headers"], body)
    if flaw is None:
        return
    if not isinstance(body, bytes):
        body.close()
    words = f"<Error><Code>{NOT_OF_S3}</Code><Message>{flaw}</Message></Error>"
    response_dict.update(status_code=500, body=words.encode())


def _flaw(operation: str, headers: Mapping[str, str], body: Any) -> str | None:
    """Return what an answer lacks that the store's would have; None for nothing."""
    if operation in _MARKED and not _MARK.search(headers.get("etag") or ""):
        return "no ETag"
    if operation in _SILENT | _GONE and isinstance(body, bytes) and body.strip():
        return "a page where nothing is said"
    if operation in _DOCUMENTS:
        name, element = _DOCUMENTS[operation]
        root = _ROOT.match(body)
        if root is None or root[1] != name:
            return f"no {name.decode()}"
        if element and not re.search(rb"<(?:\w+:)?%b>\s*[^\s<]" % element, body):
            return f"no {element.decode()} in it"
    return None
