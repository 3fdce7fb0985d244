"""A process that runs the whole program in children and lets them die; `test_crash.py` talks to it in JSON lines.

An order holds a command line and variables, and when to kill: after so many seconds, or before the step of that
number, of all or of those below a function of the sealing. A step is an entry to, or a return from, a function that
writes something, or that asks for it: of the pipeline, the checkpoint store, or the sink. The answer is how the child
ended, and how many steps it took if it lived to tell.

A child has all modules of the program and nothing else of its parent, which never runs anything itself and so has no
threads when it forks.
"""

from __future__ import annotations

import ast
import json
import os
import resource
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import CodeType, FrameType
from typing import Any

import botocore.loaders
import botocore.session

import cfaudit_bigquery
import cfaudit_export.core.durable
import cfaudit_export.pipeline.agreement
import cfaudit_export.pipeline.deliver
import cfaudit_export.pipeline.ledger
import cfaudit_export.pipeline.load
import cfaudit_export.pipeline.quarantine
import cfaudit_export.pipeline.replay
import cfaudit_export.pipeline.run
import cfaudit_export.pipeline.sealing
import cfaudit_export.pipeline.stage
import cfaudit_export.stores.file
import cfaudit_parquet
import cfaudit_s3
import cfaudit_splunk
from cfaudit_export.cli import main as run_program
from cfaudit_s3 import S3Config
from cfaudit_s3.sink import S3Sink

CORE = {
    cfaudit_export.core.durable: {"new_file", "replace_file", "create_file", "_link", "sync_folder"},
    cfaudit_export.pipeline.run: {"run_stream", "_promise", "_load"},
    cfaudit_export.pipeline.deliver: {"_settle", "promise", "load", "_accept"},
    cfaudit_export.pipeline.ledger: {"write"},
    cfaudit_export.pipeline.load: {"load", "find"},
    cfaudit_export.pipeline.quarantine: {"add", "release", "sweep", "_write", "_remove"},
    cfaudit_export.pipeline.replay: {"replay_stream"},
    cfaudit_export.pipeline.sealing: {"_seal", "_written"},
    cfaudit_export.pipeline.agreement: {"settled"},
    cfaudit_export.pipeline.stage: {"stage", "find", "remove", "sweep", "_write", "_discard"},
    cfaudit_export.stores.file: {"hold", "save", "_replace"},
}
NAMES = {str(module.__file__): names for module, names in CORE.items()}
# Of a sink, everything that has a public name in the files that talk to the outside.
SINKS = tuple(
    str(Path(package.__file__).parent) for package in (cfaudit_parquet, cfaudit_s3, cfaudit_bigquery, cfaudit_splunk)
)
TALKING = ("sink.py", "visible.py", "bucket.py", "notes.py", "service.py", "collector.py", "progress.py")
WARM = (
    "anyio._backends._asyncio",
    "httpcore2",
    "platformdirs.unix",
    "pyarrow.dataset",
    "truststore",
    "cfaudit_export.cli.app",
    "cfaudit_export.cli.run",
    "cfaudit_export.cli.replay",
    "cfaudit_export.plugin.registry",
    "cfaudit_export.app.fallback",
    "cfaudit_export.sources.auditlogs.source",
    "cfaudit_export.sources.codemode.source",
    "cfaudit_parquet.sink",
    "cfaudit_bigquery.sink",
    "cfaudit_splunk.sink",
)


def is_step(code: CodeType) -> bool:
    file, name = code.co_filename, code.co_name
    if file.startswith(SINKS):
        return file.endswith(TALKING) and not name.startswith(("_", "<"))
    return name in NAMES.get(file, ())


def is_below(frame: FrameType | None, name: str) -> bool:
    """Say whether a function was called by one of that name of the sealing, or is it."""
    while frame is not None:
        if frame.f_code.co_name == name and frame.f_code.co_filename == cfaudit_export.pipeline.sealing.__file__:
            return True
        frame = frame.f_back
    return False


@contextmanager
def counted(fatal: int | None, within: str | None = None) -> Iterator[list[int]]:
    """Count steps, perhaps only those below one; have this process killed just before the given one."""
    count = [0]

    def step() -> None:
        if within and not is_below(sys._getframe(2), within):
            return
        if count[0] == fatal:
            os.kill(os.getpid(), signal.SIGKILL)
        count[0] += 1

    def local(frame: FrameType, event: str, _: Any) -> Any:
        if event == "return":
            step()
        return local

    def trace(frame: FrameType, _event: str, _: Any) -> Any:
        if not is_step(frame.f_code):
            return None
        frame.f_trace_lines = False
        step()
        return local

    sys.settrace(trace)
    try:
        yield count
    finally:
        sys.settrace(None)


def live(order: dict[str, Any], answer: int) -> None:
    os.environ.update(order["environ"])
    os.chdir(order["folder"])
    if (largest := order["largest_file_bytes"]) is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (largest, largest))  # beyond it a write fails, as on a full disk
    for number, name in ((1, "stdout"), (2, "stderr")):
        os.dup2(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), number)
    with counted(order["step"], order["within"]) as count:
        code = run_program(order["arguments"])
    sys.stdout.flush()
    os.write(answer, str(count[0]).encode())
    os._exit(code)


def run_child(order: dict[str, Any]) -> dict[str, Any]:
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGCHLD])
            live(order, writing)
        finally:
            os._exit(70)
    os.close(writing)
    if order["seconds"] is not None and signal.sigtimedwait([signal.SIGCHLD], order["seconds"]) is None:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    while signal.sigtimedwait([signal.SIGCHLD], 0) is not None:
        pass  # the signal of a child that was waited for already
    with os.fdopen(reading, "rb") as pipe:
        steps = pipe.read()
    return {"code": os.waitstatus_to_exitcode(status), "steps": int(steps) if steps else None}


def require_steps() -> None:
    """Refuse a step that is called otherwise by now: children would quietly not die there any more."""
    for file, names in NAMES.items():
        tree = ast.parse(Path(file).read_text(encoding="utf-8"))
        defined = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
        assert names <= defined, f"{file} has no {', '.join(names - defined)}"


def warm_up() -> None:
    """Import what every child would, and read boto3's models once for all of them."""
    for name in WARM:
        import_module(name)
    loader = botocore.loaders.create_loader()
    botocore.session.create_loader = lambda *_: loader
    S3Sink(S3Config(bucket="none", endpoint_url="http://127.0.0.1:9", region="us-east-1")).close()
    for name in ("service-2", "endpoint-rule-set-1", "paginators-1"):
        loader.load_service_model("s3", name)


def main() -> None:
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGCHLD])
    require_steps()
    warm_up()
    for line in sys.stdin:
        sys.stdout.write(json.dumps(run_child(json.loads(line))) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
