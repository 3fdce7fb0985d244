"""Something else in the place of each file that an export keeps: named at once, and never waited for or believed."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow.dataset as ds
import pytest

from cfaudit_export.errors import ExitCode
from cfaudit_sandbox import Sandbox, SandboxOptions, World
from hostile import Program, running

EVENTS = 60
MOST_MB, MOST_SECONDS = 256, 60
NAMED = set(ExitCode) - {ExitCode.BUG, ExitCode.CHANGED}
VICTIM = b"a file of another program"


def sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(20_000_000_000)


def flipped(path: Path) -> None:
    content = path.with_name("saved").read_bytes() or b"0"
    middle = len(content) // 2
    path.write_bytes(content[:middle] + bytes([content[middle : middle + 1][0] ^ 1]) + content[middle + 1 :])


def linked(path: Path) -> None:
    os.link(victim_of(path), path)


def victim_of(path: Path) -> Path:
    victim = next(one for one in path.parents if one.name == "trial").with_name("victim")
    victim.write_bytes(VICTIM)
    return victim


PLANTED: dict[str, Callable[[Path], object]] = {
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "a link to nothing": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path),
    "a link to zeros without end": lambda path: path.symlink_to("/dev/zero"),
    "a link to a file of others": lambda path: path.symlink_to(victim_of(path)),
    "a second name of a file of others": linked,
    "nothing in it": Path.touch,
    "twenty gigabytes of zeros": sparse,
    "one other bit": flipped,
    "JSON that nests deeply": lambda path: path.write_bytes(b"[" * 2_000_000),
}


@pytest.fixture(scope="module")
def program() -> Iterator[Program]:
    with running() as found:
        yield found


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=EVENTS, seed=7))) as found:
        yield found


@pytest.fixture(scope="module")
def exported(program: Program, sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with an export, its state and its metrics, of two runs."""
    folder = tmp_path_factory.mktemp("exported")
    for _ in range(2):
        ended = program.run(folder, command(sandbox), environ_of(sandbox))
        assert ended.code == 0, ended.err
    return folder


OPTIONS = "--source auditlogs --sink parquet -o sinks.parquet.path=out --state-dir state"


def command(sandbox: Sandbox) -> list[str]:
    return f"run --server-url {sandbox.mcp_url} {OPTIONS} --since 40d --max-wait 1s --metrics-file m.prom".split()


def environ_of(sandbox: Sandbox) -> dict[str, str]:
    return {"CLOUDFLARE_API_TOKEN": sandbox.world.tokens["user"]}


KINDS = ("checkpoint", "lock", "save lock", "data", "manifest", "mark", "metrics")


def file_of(kind: str, folder: Path) -> Path:
    """Return the file of an export that is of a kind."""
    patterns = {
        "checkpoint": "state/**/*.json",
        "lock": "state/**/????????????????.lock",
        "save lock": "state/**/*.save*",
        "data": "out/account_id=*/**/*.parquet",
        "manifest": "out/_cfaudit/**/*.json",
        "mark": "out/.cfaudit-destination",
        "metrics": "m.prom",
    }
    found = sorted(folder.glob(patterns[kind]))
    assert found, (kind, sorted(str(one.relative_to(folder)) for one in folder.rglob("*")))
    return found[0]


EVERY = [(kind, what) for kind in KINDS for what in PLANTED]
SAMPLE = {
    ("checkpoint", "a pipe"),
    ("lock", "a link to a file of others"),
    ("save lock", "a second name of a file of others"),
    ("data", "a pipe"),
    ("manifest", "a link to zeros without end"),
    ("mark", "twenty gigabytes of zeros"),
    ("metrics", "a pipe"),
}
"""Each kind once; the others are tried by `pytest -m soak`."""


@pytest.mark.parametrize(
    ("kind", "what"),
    [pytest.param(*one, marks=() if one in SAMPLE else pytest.mark.soak, id=" is ".join(one)) for one in EVERY],
)
def test_what_is_planted_is_named_at_once(
    kind: str, what: str, program: Program, sandbox: Sandbox, exported: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "trial"
    shutil.copytree(exported, folder, symlinks=True)
    path = file_of(kind, folder)
    saved = path.rename(path.with_name("saved"))
    PLANTED[what](path)
    saved.unlink()
    status = ["status", *command(sandbox)[1:3], *OPTIONS.split()]
    report = "report --data out -o sql_memory_mb=100".split()  # noqa: SIM905  # as it is typed
    for arguments in (command(sandbox), status, report):
        ended = program.run(folder, arguments, environ_of(sandbox))
        assert ended.code in NAMED, (arguments[0], ended)
        assert ended.seconds < MOST_SECONDS, (arguments[0], ended)
        assert ended.peak_mb < MOST_MB, (arguments[0], ended)
        assert "Traceback" not in ended.err
    victim = tmp_path / "victim"
    assert not victim.exists() or victim.read_bytes() == VICTIM
    files = [str(one) for one in folder.glob("out/account_id=*/**/*.parquet") if one.is_file()]
    if kind != "data":
        ids = ds.dataset(files).to_table(columns=["event_id"])["event_id"].to_pylist()
        assert len(ids) == len(set(ids)) == EVENTS
