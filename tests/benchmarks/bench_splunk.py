"""The Splunk sink against a bare post of prepared bytes, and its bodies against json.dumps and gzip, in the same run.

    python tests/benchmarks/bench_splunk.py [--events 1000000] [--small 200000] [--rounds 3]

Prints wall, CPU and peak memory, and the ratios that the project holds itself to. Nothing here fails a test: the
numbers go into commit messages.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from subprocess import PIPE, Popen
from typing import Any

from measure import in_turns, run, show, verdict

ROWS = 50_000  # of a batch, which is about what a run stages at a time
ME = [sys.executable, str(Path(__file__))]
TOKEN = "token-of-nobody"


# -- what runs in processes of its own ------------------------------------------------------------


class Drain(BaseHTTPRequestHandler):
    """Says yes to everything, as quickly as Python can."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        answer = b'{"text":"Success","code":0}'
        self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(answer), answer))

    def log_message(self, *_: Any) -> None:
        pass


def serve() -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Drain) as server:
        print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
        server.serve_forever()


def stage(folder: Path, shape: str, events: int) -> None:
    from cfaudit_export.testing import make_batch

    for seed in range(events // ROWS):
        make_batch(folder, rows=ROWS, seed=seed, shape=shape)  # type: ignore[arg-type]  # from the command line


def prepare(folder: Path) -> None:
    """Write the bodies that the sink would post, for the bare post."""
    from cfaudit_splunk import SplunkConfig
    from cfaudit_splunk.events import EventRequests

    number = 0
    for path in staged(folder):
        for request in EventRequests(path, SplunkConfig("https://nobody.example.com")).requests(range(ROWS)):
            (folder / f"{number:06d}.body").write_bytes(request.body)
            number += 1


def bare(folder: Path, url: str, events: int) -> None:
    import httpx2

    bodies = sorted(folder.glob("*.body"))
    share = events * len(bodies) // (len(staged(folder)) * ROWS)
    headers = {"Authorization": f"Splunk {TOKEN}", "Content-Encoding": "gzip"}
    with httpx2.Client(headers=headers) as client:
        for body in bodies[:share]:
            client.post(f"{url}/services/collector/event", content=body.read_bytes()).raise_for_status()


def load(folder: Path, url: str, events: int) -> None:
    from cfaudit_export import Batch, Stream, Window
    from cfaudit_export.core.model import from_ms
    from cfaudit_splunk import SplunkConfig
    from cfaudit_splunk.sink import SplunkSink

    sink = SplunkSink(SplunkConfig(url))
    for path in staged(folder)[: events // ROWS]:
        path.with_suffix(".splunk").unlink(missing_ok=True)
        batch = Batch(path.stem, Stream("0" * 32, "auditlogs"), Window(from_ms(0), from_ms(1)), ROWS, path, "")
        assert sink.load(batch).rows == ROWS
    sink.close()
    assert "pyarrow.parquet" not in sys.modules


def cpu(folder: Path, rounds: int) -> None:
    """Print the CPU seconds per million events of preparing bodies, ours and json.dumps with gzip(6), in turns."""
    from cfaudit_splunk import SplunkConfig

    path = staged(folder)[0]
    config = SplunkConfig("https://nobody.example.com")
    texts = [request.body.decode() for request in _requests(path, replace(config, gzip=False))]
    groups = [_objects(text) for text in texts]
    ways: dict[str, Callable[[], object]] = {
        "ours": lambda: _requests(path, config),
        "dumps": lambda: [gzip.compress("".join(map(json.dumps, group)).encode(), 6) for group in groups],
        "without ISA-L": lambda: _without_isal(path, config),
    }
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            started = time.process_time()
            way()
            taken[name].append((time.process_time() - started) * 1e6 / ROWS)
    sizes = {"bytes an event": sum(map(len, texts)) / ROWS}
    print(json.dumps({**{name: statistics.median(some) for name, some in taken.items()}, **sizes}))


def _requests(path: Path, config: Any) -> list[Any]:
    from cfaudit_splunk.events import EventRequests

    return list(EventRequests(path, config).requests(range(ROWS)))


def _without_isal(path: Path, config: Any) -> None:
    kept = {name: sys.modules.pop(name) for name in list(sys.modules) if name.split(".")[0] == "isal"}
    sys.modules["isal"] = None  # type: ignore[assignment]  # how an import is made to fail
    try:
        _requests(path, config)
    finally:
        del sys.modules["isal"]
        sys.modules.update(kept)


def _objects(text: str) -> list[Any]:
    decoder, at, found = json.JSONDecoder(), 0, []
    while at < len(text):
        value, at = decoder.raw_decode(text, at)
        found.append(value)
    return found


def staged(folder: Path) -> list[Path]:
    return sorted(folder.glob("*.arrow"))


# -- the comparison -------------------------------------------------------------------------------


@contextmanager
def drain() -> Iterator[str]:
    with Popen([*ME, "serve"], stdout=PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
        process.terminate()


def preparation(folder: Path, shape: str, rounds: int) -> None:
    run([*ME, "stage", str(folder), shape, str(ROWS)])
    with Popen([*ME, "cpu", str(folder), str(rounds)], stdout=PIPE, text=True) as process:
        taken = json.loads(process.communicate()[0])
    print(f"\nbodies of {shape} events, {taken.pop('bytes an event'):.0f} bytes each, CPU s per 1M")
    for name, seconds in taken.items():
        print(f"  {name:<28} {seconds:7.2f}")
    verdict("CPU against json.dumps and gzip(6)", taken["ours"] / taken["dumps"], 0.2)
    print(f"  the same without ISA-L: {taken['without ISA-L'] / taken['dumps']:.2f}")


def through_the_sink(folder: Path, events: int, small: int, rounds: int) -> None:
    run([*ME, "stage", str(folder), "six-field", str(events)])
    run([*ME, "prepare", str(folder)])
    with drain() as url:
        fewer = run([*ME, "load", str(folder), url, str(small)])
        costs = in_turns(
            rounds,
            bare=lambda: run([*ME, "bare", str(folder), url, str(events)]),
            sink=lambda: run([*ME, "load", str(folder), url, str(events)]),
        )
    show(f"{events} events through the sink", {f"sink, {small} events": fewer, **costs})
    for name, cost in costs.items():
        print(f"  {name:<28} {events / cost.wall:10.0f} events/s")
    print(f"  wall against a bare post of prepared bytes: {costs['sink'].wall / costs['bare'].wall:.2f}")
    verdict("peak memory in MB", costs["sink"].peak_mb, 100)
    verdict("peak memory against fewer events", costs["sink"].peak_mb / fewer.peak_mb, 1.2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--small", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    for shape in ("six-field", "whole"):
        with tempfile.TemporaryDirectory(prefix="cfaudit-bench-") as folder:
            preparation(Path(folder), shape, options.rounds)
    with tempfile.TemporaryDirectory(prefix="cfaudit-bench-") as folder:
        through_the_sink(Path(folder), options.events, options.small, options.rounds)


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["serve"]:
            serve()
        case ["stage", folder, shape, events]:
            stage(Path(folder), shape, int(events))
        case ["prepare", folder]:
            prepare(Path(folder))
        case ["bare", folder, url, events]:
            bare(Path(folder), url, int(events))
        case ["load", folder, url, events]:
            os.environ["SPLUNK_HEC_TOKEN"] = TOKEN
            load(Path(folder), url, int(events))
        case ["cpu", folder, rounds]:
            cpu(Path(folder), int(rounds))
        case _:
            main()
