"""A process that exports in children and lets them die; `conftest.py` talks to it, JSON lines each way.

Its argument names the sink. An order says where to, and gives a folder for staged batches and the time; the answer is
the child's pid at once and how it ended later. A child exports a made-up account through the whole pipeline. The
process itself never exports, so that it has no threads when it forks.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Generator, Iterable
from datetime import datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from cfaudit_export import CheckpointStore, Connection, Extract, LockedError, Sink, Stream, Window
from cfaudit_export.pipeline.request import RunRequest
from cfaudit_export.pipeline.run import run_stream
from cfaudit_export.pipeline.run_context import RunContext

ACCOUNT = "0f3c1e5a7b9d2468ace013579bdf2468"


class MadeUpSource:
    """Gives events that an order lists: a description, their time, and from when on they can be read."""

    def __init__(self, events: list[list[str]], now: datetime) -> None:
        readable = [(datetime.fromisoformat(at), text) for text, at, since in events if since <= now.isoformat()]
        self._events = sorted(readable)
        self._now = now

    def connect(self) -> Connection:
        return Connection(ACCOUNT, "Example", "token", 1, frozenset(), "made up", "none", "none")

    def probe(self) -> None:
        pass

    def extract(self, windows: Iterable[Window]) -> Generator[Extract, None, None]:
        for window in windows:
            since = window.since
            while since < window.before:
                piece = Window(since, min(since + timedelta(hours=16), window.before))
                yield Extract(piece, self._table(piece), (), self._now, 1)
                since = piece.before

    def close(self) -> None:
        pass

    def _table(self, window: Window) -> pa.Table:
        events = [(at, text) for at, text in self._events if window.since <= at < window.before]
        texts = [text for _, text in events]
        return pa.table(
            {
                "event_time": pa.array([at for at, _ in events], pa.timestamp("ns", "UTC")),
                "action_description": pa.array(texts, pa.string()),
                "event_raw": pa.array([json.dumps({"description": text}) for text in texts], pa.string()),
            }
        )


def into_s3(order: dict[str, Any], now: datetime) -> tuple[Sink, CheckpointStore]:
    """Return a sink and a store, both in one bucket."""
    from cfaudit_s3 import S3Config, S3StoreConfig
    from cfaudit_s3.sink import S3Sink
    from cfaudit_s3.store import S3Store

    access = {"bucket": order["bucket"], "endpoint_url": order["url"], "attempts": 2, "region": "us-east-1"}
    store = S3Store(S3StoreConfig(prefix=order["prefix"] + "state/", **access), monotonic=lambda: 0.0)
    # The store tells the time of this trial, which stands still while the export lasts.
    events = store._bucket._wire._client.meta.events
    events.register_first("before-parse.s3.*", lambda response_dict, **_: told(response_dict["headers"], now))
    return S3Sink(S3Config(prefix=order["prefix"], **access)), store


def into_bigquery(order: dict[str, Any], _now: datetime) -> tuple[Sink, CheckpointStore]:
    """Return a sink, and a store in a folder that outlives the one of staged batches."""
    from cfaudit_bigquery import BigQueryConfig
    from cfaudit_bigquery.sink import BigQuerySink
    from cfaudit_export.stores.file import FileStore

    return BigQuerySink(BigQueryConfig(**order["config"])), FileStore(Path(order["state"]))


def told(headers: Any, now: datetime) -> None:
    headers["Date"] = format_datetime(now, usegmt=True)


DESTINATIONS = {"s3": into_s3, "bigquery": into_bigquery}


def export(destination: str, order: dict[str, Any]) -> int:
    now = datetime.fromisoformat(order["now"])
    source = MadeUpSource(order["events"], now)
    sink, store = DESTINATIONS[destination](order, now)
    job = RunContext(
        stream=Stream(ACCOUNT, "made-up"),
        connection=source.connect(),
        source=source,
        sinks={destination: sink},
        store=store,
        staging=Path(order["staging"]),
        clock=lambda: now,
        request=RunRequest(
            since=datetime.fromisoformat(order["since"]) if order["since"] else None,
            adopt_destination=order.get("adopt", False),
        ),
    )
    try:
        report = run_stream(job)
    except LockedError:
        return 75
    finally:
        sink.close()
    if report.exit_code:
        sys.stderr.write(f"{report.error} {[one.error for one in report.sinks]}\n")
    return int(report.exit_code)


def run_child(destination: str, order: dict[str, Any]) -> None:
    child = os.fork()
    if child == 0:
        code = 70
        try:
            code = export(destination, order)
        except BaseException:  # noqa: BLE001 - whatever it is, the parent must not go on in its child
            traceback.print_exc()
        os._exit(code)
    tell({"pid": child})
    if order["seconds"] is not None and signal.sigtimedwait([signal.SIGCHLD], order["seconds"]) is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    tell({"code": os.waitstatus_to_exitcode(status)})
    while signal.sigtimedwait([signal.SIGCHLD], 0) is not None:
        pass  # the signal of a child that was waited for already


def tell(answer: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(answer) + "\n")
    sys.stdout.flush()


def warm_up(destination: str) -> None:
    """Import what a child needs; and read boto3's models once, for all children."""
    if destination == "bigquery":
        import cfaudit_bigquery.sink  # noqa: F401 - imported for the children
        import cfaudit_export.stores.file  # noqa: F401 - imported for the children

        return
    import botocore.loaders
    import botocore.session

    from cfaudit_s3 import S3Config
    from cfaudit_s3.sink import S3Sink

    loader = botocore.loaders.create_loader()
    botocore.session.create_loader = lambda *_: loader
    S3Sink(S3Config(bucket="none", endpoint_url="http://127.0.0.1:9", region="us-east-1")).close()
    for name in ("service-2", "endpoint-rule-set-1", "paginators-1"):
        loader.load_service_model("s3", name)


def main() -> None:
    destination = sys.argv[1]
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    warm_up(destination)
    for line in sys.stdin:
        run_child(destination, json.loads(line))


if __name__ == "__main__":
    main()
