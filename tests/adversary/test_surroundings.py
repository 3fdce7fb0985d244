"""A machine that fails: calls of the disk, too few files, too little memory, every signal, no names, other networks.

Whatever happens to a run, it ends by name or by the signal, and the next one has every event once.
"""

from __future__ import annotations

import select
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pyarrow.dataset as ds
import pytest

from cfaudit_export.errors import ExitCode
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from hostile import Ended, Program, running, serving

EVENTS = 60
NAMED = set(ExitCode) - {ExitCode.BUG, ExitCode.CHANGED, ExitCode.USAGE}
OPTIONS = "--source auditlogs --sink parquet -o sinks.parquet.path=out --state-dir state --since 40d --max-wait 1s"

# Lets one call of the operating system fail: the one of that number, of all that this program makes for its files.
FAILING = """
import errno, itertools, os, sys
count = itertools.count()
def failing(name, real):
    def call(*arguments, **options):
        caller = sys._getframe(1).f_code.co_filename
        if "cfaudit" in caller and next(count) == {number}:
            raise OSError(errno.{error}, os.strerror(errno.{error}))
        return real(*arguments, **options)
    return call
for name in ("open", "fsync", "replace", "rename", "link", "unlink", "mkdir", "fchmod"):
    setattr(os, name, failing(name, getattr(os, name)))
"""


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=EVENTS, seed=7))) as found:
        yield found


def arguments(url: str) -> list[str]:
    return f"run --server-url {url} {OPTIONS}".split()


def environ_of(sandbox: Sandbox) -> dict[str, str]:
    return {"CLOUDFLARE_API_TOKEN": sandbox.world.tokens["user"]}


def require_named(ended: Ended) -> None:
    assert ended.code in NAMED, ended
    assert "Traceback" not in ended.err


def require_recovered(program: Program, sandbox: Sandbox, folder: Path) -> None:
    """Run once more without any fault: every event is there once."""
    ended = program.run(folder, arguments(sandbox.mcp_url), environ_of(sandbox))
    assert ended.code == 0, ended.err
    found = ds.dataset(folder / "out", format="parquet", partitioning=None).to_table(columns=["event_id"])
    ids = found["event_id"].to_pylist()
    assert len(ids) == len(set(ids)) == EVENTS


@pytest.mark.parametrize(
    ("error", "number"),
    [
        pytest.param(error, number, marks=() if (number + shift) % 35 == 0 else pytest.mark.soak)
        for shift, error in enumerate(("ENOSPC", "EIO", "EMFILE", "EROFS", "EACCES"))
        for number in range(70)
    ],
)
def test_a_call_of_the_disk_that_fails_loses_and_doubles_nothing(
    error: str, number: int, program: Program, sandbox: Sandbox, tmp_path: Path
) -> None:
    first = FAILING.replace("{number}", str(number)).replace("{error}", error)
    require_named(program.run(tmp_path, arguments(sandbox.mcp_url), environ_of(sandbox), first=first))
    require_recovered(program, sandbox, tmp_path)


@pytest.mark.parametrize(
    "files", [pytest.param(number, marks=pytest.mark.soak) for number in range(8, 40, 2)] + [9, 15]
)
def test_too_few_files_end_a_run_by_name(files: int, program: Program, sandbox: Sandbox, tmp_path: Path) -> None:
    require_named(program.run(tmp_path, arguments(sandbox.mcp_url), environ_of(sandbox), files=files))
    require_recovered(program, sandbox, tmp_path)


@pytest.mark.parametrize("megabytes", [2, *(pytest.param(one, marks=pytest.mark.soak) for one in (8, 32, 64, 128))])
def test_too_little_memory_ends_a_run_by_name(
    megabytes: int, program: Program, sandbox: Sandbox, tmp_path: Path
) -> None:
    ended = program.run(tmp_path, arguments(sandbox.mcp_url), environ_of(sandbox), memory_mb=megabytes)
    require_named(ended)
    require_recovered(program, sandbox, tmp_path)


@pytest.mark.parametrize("size", [0, 1, 5_000, pytest.param(20_000, marks=pytest.mark.soak)])
def test_files_that_cannot_grow_end_a_run_by_name(
    size: int, program: Program, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The child's own output is a file as well: it is lost, and the exit code tells."""
    ended = program.run(tmp_path, arguments(sandbox.mcp_url), environ_of(sandbox), file_bytes=size)
    assert ended.code in NAMED | {ExitCode.USAGE}, ended
    require_recovered(program, sandbox, tmp_path)


ENDING = sorted(
    {
        *("HUP", "INT", "QUIT", "TERM", "USR1", "USR2", "ALRM", "PIPE", "XCPU", "VTALRM", "PROF", "IO", "SYS", "TRAP"),
        *("ABRT", "BUS", "FPE", "ILL", "SEGV", "POLL", "PWR", "STKFLT", "KILL"),
    }
)
STOPPING = {"HUP", "INT", "TERM"}
QUIETLY = {"PIPE"}
"""Python ignores it, and a run goes on."""


@pytest.mark.parametrize(
    "name", [pytest.param(one, marks=() if one in {*STOPPING, "USR1"} else pytest.mark.soak) for one in ENDING]
)
def test_every_signal_ends_a_run_that_the_next_one_continues(
    name: str, program: Program, sandbox: Sandbox, tmp_path: Path
) -> None:
    number = getattr(signal, f"SIG{name}")
    with serving("says nothing") as peer:
        program.start(tmp_path, arguments(f"{peer.url}/mcp"), environ_of(sandbox))
        child = program.pid()
        assert peer.asked.wait(60)
        program.kill(child, number)
        ended = program.end(tmp_path)
    assert ended.code in ({128 + number} if name in STOPPING else {-number} | (NAMED if name in QUIETLY else set()))
    require_recovered(program, sandbox, tmp_path)


def test_a_run_that_was_stopped_and_continued_goes_on(program: Program, sandbox: Sandbox, tmp_path: Path) -> None:
    with serving("says nothing") as peer:
        options = [*arguments(f"{peer.url}/mcp"), "-o", "sources.auditlogs.timeout_seconds=1"]
        program.start(tmp_path, options, environ_of(sandbox))
        child = program.pid()
        assert peer.asked.wait(60)
        for _ in range(100):
            program.kill(child, signal.SIGSTOP)
            program.kill(child, signal.SIGCONT)
        require_named(program.end(tmp_path))
    require_recovered(program, sandbox, tmp_path)


def test_a_name_that_no_server_knows_is_said(program: Program, sandbox: Sandbox, tmp_path: Path) -> None:
    ended = program.run(tmp_path, arguments("https://nowhere.invalid/mcp"), environ_of(sandbox))
    assert ended.code == ExitCode.TRY_AGAIN, ended
    require_recovered(program, sandbox, tmp_path)


@contextmanager
def over_ipv6(url: str) -> Iterator[str]:
    """Serve what is at a URL at the loopback of IPv6 too."""
    parts = urlsplit(url)

    def forward(one: socket.socket) -> None:
        with one, socket.create_connection((parts.hostname or "", parts.port or 0)) as other, suppress(OSError):
            while True:
                for ready in select.select([one, other], [], [])[0]:
                    piece = ready.recv(1 << 16)
                    if not piece:
                        return
                    (other if ready is one else one).sendall(piece)

    def accept() -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=forward, args=(listener.accept()[0],), daemon=True).start()

    with socket.create_server(("::1", 0), family=socket.AF_INET6) as listener:
        threading.Thread(target=accept, daemon=True).start()
        yield f"http://[::1]:{listener.getsockname()[1]}{parts.path}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


@pytest.mark.skipif(not has_ipv6(), reason="there is no IPv6 here")
def test_a_machine_that_has_ipv6_only_exports(program: Program, tmp_path: Path) -> None:
    with (
        Sandbox(World(SandboxOptions(events=EVENTS, seed=7, allowed_hosts=("[::1]", "::1")))) as sandbox,
        over_ipv6(sandbox.mcp_url) as url,
    ):
        ended = program.run(tmp_path, arguments(url), environ_of(sandbox))
    assert ended.code == 0, ended
