"""A stand-in for the REST interface of BigQuery: `python tests/plugins/bigquery/standin`, prints its URL.

Strict where the sink must be right: names of jobs are taken once, uploads follow the resumable protocol, JSON columns
take what the type takes, ETags are compared, unknown settings are refused. Tests steer it at `/standin/...`.
"""

from __future__ import annotations

import argparse
import json
import re
import socket
import sys
import uuid
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

import control
import jobs
from faults import Faults
from state import ApiError, State, Upload

_PAGE = "<html><h1>Sign in to the network</h1></html>"
_QUANTUM = 256 << 10
_RANGE = re.compile(r"bytes (\*|(\d+)-(\d+))/(\*|\d+)")


class Handler(BaseHTTPRequestHandler):
    """One connection."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    state: State
    faults: Faults
    log: list[list[Any]]

    def answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        url = urlsplit(self.path)
        if url.path.startswith("/standin/"):
            control.answer(self, url, body)
            return
        with self.faults.counted():
            self.answer_service(body)

    def answer_service(self, body: bytes) -> None:
        url = urlsplit(self.path)
        fault = self.faults.of_request(self.command, self.path)
        action = fault.get("action")
        entry = [self.command, self.path, None]
        self.log.append(entry)
        if action in {"drop", "refuse", "page"}:
            entry[2] = fault.get("status")
            self.answer_for_service(fault)
            return
        if action == "hold":
            self.faults.held.set()
            self.faults.released.wait(60)
        error = None
        try:
            with self.state.lock:
                status, headers, answer = self.route(url.path, parse_qs(url.query), body, half=action == "half")
        except ApiError as caught:
            error, status = caught, caught.status
        entry[2] = status
        if action == "garble":
            self.send_bytes(200, b"<html><h1>Sign in to the network</h1></html>", {"Content-Type": "text/html"})
        elif action == "empty":
            self.send_object(200, {})
        elif error:
            self.send_error_object(error)
        elif action == "lose":
            self.hang_up()
        elif action == "lie":
            self.send_error_object(ApiError(fault["status"], fault["reason"], "asked for by a test"))
        else:
            self.send_object(status, answer, headers)

    def answer_for_service(self, fault: dict[str, Any]) -> None:
        """Answer without a word of the service."""
        match fault["action"]:
            case "drop":
                self.hang_up()
            case "refuse":
                words = fault.get("message", "asked for by a test")
                self.send_error_object(ApiError(fault["status"], fault["reason"], words))
            case "page":
                self.send_bytes(fault["status"], fault.get("body", _PAGE).encode(), {"Content-Type": "text/html"})

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815 - names of the base class

    def route(
        self, path: str, query: dict[str, list[str]], body: bytes, *, half: bool
    ) -> tuple[int, dict[str, str], Any]:
        match self.command, path.strip("/").split("/"):
            case "POST", ["upload", "bigquery", "v2", "projects", project, "jobs"]:
                return self.begin_upload(project, query, body)
            case "PUT", ["upload", "bigquery", "v2", "projects", project, "jobs"]:
                return self.continue_upload(project, query["upload_id"][0], body, half=half)
            case _, ["bigquery", "v2", "projects", project, "jobs", *rest]:
                return 200, {}, self.on_jobs(project, rest, query, body)
            case _, ["bigquery", "v2", "projects", project, "datasets", dataset, "tables", *rest]:
                return self.on_tables(f"{project}.{dataset}", rest, body)
        raise ApiError(404, "notFound", f"no such path: {path}")

    def on_jobs(self, project: str, rest: list[str], query: dict[str, list[str]], body: bytes) -> Any:
        match self.command, rest:
            case "POST", []:
                return jobs.insert_query(self.state, self.faults, project, json.loads(body))
            case "GET", [job_id]:
                return jobs.get_job(self.state, project, job_id, query.get("location", [None])[0])
        raise ApiError(404, "notFound", "no such method")

    def on_tables(self, dataset: str, rest: list[str], body: bytes) -> tuple[int, dict[str, str], Any]:
        name, _, verb = f"{dataset}.{'/'.join(rest)}".partition(":")
        match self.command, rest, verb:
            case "POST", [], "":
                resource = json.loads(body)
                name = f"{dataset}.{resource['tableReference']['tableId']}"
                return 200, {}, self.state.create_table(name, resource)
            case "POST", [_], "testIamPermissions":
                self.state.table(name)
                asked = json.loads(body)["permissions"]
                return 200, {}, {"permissions": [one for one in asked if one not in self.state.denied]}
            case _, [_], "":
                return self.on_table(self.command, name, body)
        raise ApiError(404, "notFound", "no such method")

    def on_table(self, method: str, name: str, body: bytes) -> tuple[int, dict[str, str], Any]:
        if method == "GET":
            self.state.need("bigquery.tables.get", f"Table {name}")
            return 200, {}, self.state.shown(self.state.table(name))
        if method == "PATCH":
            return 200, {}, self.state.change_table(name, json.loads(body), self.headers.get("If-Match"))
        if method == "DELETE":
            self.state.delete_table(name)
            return 204, {}, None
        raise ApiError(404, "notFound", "no such method")

    # -- uploads ----------------------------------------------------------------------------------------

    def begin_upload(self, project: str, query: dict[str, list[str]], body: bytes) -> tuple[int, dict[str, str], Any]:
        if query.get("uploadType") == ["multipart"]:
            head, content = _parts(self.headers["Content-Type"], body)
            return 200, {}, jobs.insert_load(self.state, self.faults, project, json.loads(head), content)
        upload_id = uuid.uuid4().hex
        self.state.uploads[upload_id] = Upload(json.loads(body))
        location = f"http://{self.headers['Host']}{self.path}&upload_id={upload_id}"
        return 200, {"Location": location}, {}

    def continue_upload(
        self, project: str, upload_id: str, body: bytes, *, half: bool
    ) -> tuple[int, dict[str, str], Any]:
        upload = self.state.uploads.get(upload_id)
        if upload is None:
            raise ApiError(404, "notFound", "no such upload")
        if upload.answer:
            return 200, {}, upload.answer
        span = _RANGE.fullmatch(self.headers["Content-Range"])
        if span is None:
            raise ApiError(400, "invalid", f"bad Content-Range {self.headers['Content-Range']}")
        last = span[4] != "*"
        if span[2] and (int(span[2]) != len(upload.content) or int(span[3]) - int(span[2]) + 1 != len(body)):
            raise ApiError(400, "invalid", "the chunk does not follow what is there")
        if not last and len(body) % _QUANTUM:
            raise ApiError(400, "invalid", "a chunk must be a multiple of 256 KiB")
        upload.content += body[: len(body) // 2] if half else body
        if not last or half:
            return 308, {"Range": f"bytes=0-{len(upload.content) - 1}"}, None
        upload.answer = jobs.insert_load(self.state, self.faults, project, upload.resource, bytes(upload.content))
        upload.content.clear()
        return 200, {}, upload.answer

    # -- answers ----------------------------------------------------------------------------------------

    def send_object(self, status: int, answer: Any, headers: dict[str, str] | None = None) -> None:
        content = b"" if answer is None else json.dumps(answer).encode()
        self.send_bytes(status, content, {"Content-Type": "application/json", **(headers or {})})

    def send_error_object(self, error: ApiError) -> None:
        said = {"message": error.message, "domain": "global", "reason": error.reason}
        self.send_object(error.status, {"error": {"code": error.status, "message": error.message, "errors": [said]}})

    def send_bytes(self, status: int, content: bytes, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def hang_up(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, *_: Any) -> None:
        """Say nothing; tests read the log."""


class Server(ThreadingHTTPServer):
    """Many connections; that a client dies is what tests are about."""

    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)


def _parts(content_type: str, body: bytes) -> tuple[bytes, bytes]:
    """Split a multipart/related body into its metadata and its content."""
    boundary = re.search(r'boundary="?([^";]+)', content_type)
    if not boundary:
        raise ApiError(400, "invalid", "no boundary")
    _, head, content, _ = body.split(b"--" + boundary[1].encode(), 3)
    return head.partition(b"\r\n\r\n")[2].strip(), content.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    server = Server(("127.0.0.1", parser.parse_args().port), Handler)
    Handler.state, Handler.faults, Handler.log = State(), Faults(), []
    sys.stdout.write(f"http://127.0.0.1:{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
