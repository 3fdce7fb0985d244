"""Serve moto's S3 and STS on a free loopback port, which is printed; until the standard input ends."""

from __future__ import annotations

import logging
import sys
import threading
from typing import Any

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app
from moto.s3.exceptions import NoSuchUpload
from moto.s3.models import S3Backend
from werkzeug.serving import make_server


def answer_as_s3_does() -> None:
    """Have moto say NoSuchUpload for the completion of an upload that is gone; it would answer 500."""
    complete = S3Backend.complete_multipart_upload

    def checked(self: S3Backend, bucket: str, upload_id: str, *rest: Any) -> Any:
        if upload_id not in self.get_bucket(bucket).multiparts:
            raise NoSuchUpload(upload_id=upload_id)
        return complete(self, bucket, upload_id, *rest)

    S3Backend.complete_multipart_upload = checked


def main() -> None:
    answer_as_s3_does()
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = make_server("127.0.0.1", 0, DomainDispatcherApplication(create_backend_app), threaded=True)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sys.stdin.read()


if __name__ == "__main__":
    main()
