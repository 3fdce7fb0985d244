"""`verify` offline: by options alone, its words, its exit codes, and what is asked of it wrongly."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import Stream, Window, read_batch
from cfaudit_export.proof.chain import Anchor, Link, chain_of, link_to, manifest_name
from cfaudit_export.proof.envelope import LARGEST, wrap
from cfaudit_export.proof.keys import new_key, write_key
from cfaudit_export.proof.manifest import BatchEntry, Manifest
from cfaudit_export.proof.rows import ids_sha256, leaves, rows_sha256
from cfaudit_export.proof.statement import statement
from cfaudit_export.testing import make_batch
from cfaudit_parquet import ParquetConfig
from cfaudit_parquet.sink import ParquetSink

Cli = Callable[..., Any]
KEY = new_key()
FIRST = datetime(2026, 11, 1, tzinfo=UTC)
DAY = Window(FIRST, FIRST + timedelta(days=1))


@pytest.fixture
def sealed(place: Path, tmp_path: Path) -> Link:
    """An export of a day in `out`, its manifest and its public key."""
    batch = make_batch(tmp_path / "staging", rows=50)
    events = read_batch(batch)
    files = ParquetSink(ParquetConfig(path="out")).load(batch).files
    chain = chain_of(batch.stream.id, "parquet")
    entry = BatchEntry(
        batch_id=batch.batch_id,
        window=DAY,
        rows=50,
        late_rows=0,
        first=FIRST,
        last=FIRST,
        rows_sha256=rows_sha256(leaves(events)),
        ids_sha256=ids_sha256(events["event_id"].to_pylist()),
        files=files,
    )
    return write(batch.stream, chain, entry)


def write(stream: Stream, chain: str, *batches: BatchEntry) -> Link:
    manifest = Manifest(
        kind="seal",
        chain=chain,
        sequence=1,
        previous=None,
        stream=stream,
        sink="parquet",
        location="out",
        sealed_at=DAY.before,
        program="0.2.0",
        schema_version=1,
        covered=(DAY,),
        covered_total=(DAY,),
        batches=batches,
    )
    document = wrap(statement(manifest), [KEY])
    path = Path("out") / manifest_name(chain, 1)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(document)
    Path("audit.pub").write_text(KEY.public.pem)
    return link_to(1, document)


GIVEN = ("verify", "--data", "out", "--public-key", "audit.pub")


def test_what_is_proved_is_said_on_stdout(cli: Cli, sealed: Link) -> None:
    done = cli(*GIVEN, "--anchor", str(sealed))
    assert (done.code, done.err) == (0, "")
    assert done.out == (
        "Asked for 2026-11-01 to 2026-11-02, account 0f3c1e5a7b9d2468ace013579bdf2468: 1d, proved: 1d. "
        "1 of 1 file and 1 of 1 manifest valid. 50 events, none twice.\n"
    )


def test_what_was_changed_ends_with_1(cli: Cli, sealed: Link) -> None:
    [path] = Path("out").rglob("*.parquet")
    path.unlink()
    done = cli(*GIVEN)
    assert done.code == 1
    assert f"{path.relative_to('out').as_posix()}  INVALID: not found\n" in done.out
    assert cli(*GIVEN, "--quick").code == 1


def test_what_is_not_covered_ends_with_65(cli: Cli, sealed: Link) -> None:
    done = cli(*GIVEN, "--since", "2026-11-01", "--until", "2026-11-03")
    assert done.code == 65
    assert "Not covered: 2026-11-02T00:00:00.000Z to 2026-11-03T00:00:00.000Z (never exported)\n" in done.out
    assert cli(*GIVEN, "--account", "c" * 32).code == 65
    assert cli("verify", "--data", "out").code == 65


def test_as_json_each_finding_is_a_value(cli: Cli, sealed: Link) -> None:
    next(Path("out").rglob("*.parquet")).write_bytes(b"x")
    done = cli(*GIVEN, "--json")
    answer = json.loads(done.out)
    assert (done.code, answer["exit_code"]) == (1, 1)
    [wrong] = [one for one in answer["verified"]["findings"] if one["kind"] == "invalid"]
    assert (wrong["about"], wrong["what"][:20]) == ("file", "its bytes are not th")
    assert answer["verified"]["coverage"][0]["proved"] == []
    assert answer["verified"]["ends"][0]["sequence"] == 1


def test_anchors_are_read_from_a_log(cli: Cli, sealed: Link) -> None:
    chain = next(Path("out/_cfaudit/manifests").glob("*/*")).relative_to("out/_cfaudit/manifests").as_posix()
    lines = [{"event": "sealed", "anchor": str(Anchor(sealed, chain))}, {"event": "other"}]
    Path("log").write_text("\n".join(map(json.dumps, lines)))
    assert cli(*GIVEN, "--anchor", "log").code == 0
    Path("log").write_text(str(Anchor(Link(2, "a" * 64), chain)))
    done = cli(*GIVEN, "--anchor", "log")
    assert done.code == 1
    assert done.out.startswith("Manifest 00000002  INVALID: not found, though an anchor names it (aaaaaaaa…)")


def test_manifests_may_lie_elsewhere(cli: Cli, sealed: Link) -> None:
    Path("proof").mkdir()
    Path("out/_cfaudit").rename("proof/_cfaudit")
    assert cli(*GIVEN).code == 65
    assert cli(*GIVEN, "--manifests", "proof").code == 0
    assert cli(*GIVEN, "--manifests", "proof/_cfaudit/manifests").code == 0
    done = cli("verify", "--manifests", "proof", "--public-key", "audit.pub")
    assert done.code == 65
    assert "Files were not looked at: say with --data where they are (1 are named)" in done.out


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("verify",), 2, "name the exported files"),
        (("verify", "--data", "gone"), 78, "no folder 'gone'"),
        (("verify", "--data", "out", "--manifests", "gone"), 78, "no folder 'gone'"),
        (("verify", "--data", "out", "--public-key", "gone"), 78, "cannot be used: no such file"),
        (("verify", "--data", "out", "--public-key", "own.pem"), 78, "holds a private key; give the public one"),
        ((*GIVEN, "--anchor", "gone"), 2, "neither SEQUENCE:SHA256 nor a file"),
        ((*GIVEN, "--anchor", "audit.pub"), 2, "holds no anchor"),
        ((*GIVEN, "--since", "2026-11-02", "--until", "2026-11-01"), 78, "since must be earlier than until"),
        ((*GIVEN, "--source"), 2, "--source cannot be combined with options of the proof"),
        ((*GIVEN, "--rows", "gone"), 78, "cannot be read: no such file"),
    ],
)
def test_what_is_asked_wrongly_is_explained(
    cli: Cli, sealed: Link, given: tuple[str, ...], code: int, said: str
) -> None:
    write_key(KEY, Path("own.pem"))
    done = cli(*given)
    assert done.code == code
    assert said in done.err
    assert done.out == ""


def test_answers_say_on_top_what_is_proved_only_where_a_key_is_given(cli: Cli, sealed: Link) -> None:
    asked = ("--data", "out", "--since", "2026-11-01", "--until", "2026-11-02")
    for command in ("report", "timeline"):
        done = cli(command, *asked)
        assert done.code == 0
        assert "proof" not in done.out.lower()
        done = cli(command, *asked, "--public-key", "audit.pub", "--anchor", str(sealed))
        assert done.code == 0
        assert "proof: verified to manifest 1, anchor of 2026-11-02\n" in done.out
        done = cli(command, *asked, "--public-key", "audit.pub")
        assert "proof: verified to manifest 1, without an anchor\n" in done.out
        done = cli(command, *asked[:-1], "2026-11-03", "--public-key", "audit.pub", "--json")
        said = json.loads(done.out)["proof"]
        assert said.startswith("verified to manifest 1, without an anchor; proved are 1d of 2d; see")
        done = cli(command, *asked, "--public-key", "audit.pub", "--html", "page.html")
        assert "Proof: verified to manifest 1, without an anchor" in Path("page.html").read_text()
        done = cli(command, *asked, "--anchor", str(sealed))
        assert (done.code, done.out) == (2, "")


def test_an_answer_from_files_that_were_changed_says_so_and_ends_with_1(cli: Cli, sealed: Link) -> None:
    shutil.copy(next(Path("out").rglob("*.parquet")), "kept")
    [path] = Path("out").rglob("*.parquet")
    shutil.copy(path, path.with_name("x.parquet"))
    for command in ("report", "timeline"):
        done = cli(command, *GIVEN[1:], "--since", "2026-11-01", "--until", "2026-11-02")
        assert done.code == 1
        assert "proof: NOT PROVED: 1 thing INVALID; see 'cfaudit-export verify'\n" in done.out


# -- manifests that are none -------------------------------------------------------------------------


def bad(name: str) -> bytes:
    good = next(Path("out/_cfaudit").rglob("*.json")).read_bytes()
    match name:
        case "empty":
            return b""
        case "deep":
            return b"[" * 1_000_000
        case "twice":
            return good.replace(b'"payloadType"', b'"payload":"eA==","payloadType"')
        case "binary":
            return bytes(range(256)) * 10
        case "outside":
            return wrap(
                b'{"_type":"https://in-toto.io/Statement/v1","predicate":'
                + next(iter(_payloads(good))).partition(b'"predicate":')[2].replace(b"account_id=", b"../ccount_id="),
                [KEY],
            )
    raise AssertionError(name)


def _payloads(document: bytes) -> list[bytes]:
    import base64

    return [base64.b64decode(json.loads(document)["payload"])]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("empty", "INVALID: invalid format: "),
        ("deep", "INVALID: invalid format: it is nested too deep"),
        ("twice", 'INVALID: invalid format: key "payload" comes twice'),
        ("binary", "INVALID: invalid format: it is not UTF-8"),
        ("outside", "INVALID: names a file outside the data"),
    ],
)
def test_a_manifest_of_another_form_is_named(cli: Cli, sealed: Link, name: str, said: str) -> None:
    [path] = Path("out/_cfaudit").rglob("*.json")
    path.write_bytes(bad(name))
    done = cli(*GIVEN)
    assert done.code == 1
    assert done.out.startswith(f"Manifest 00000001  {said}")


def test_a_manifest_of_a_gigabyte_is_refused_unread(cli: Cli, sealed: Link) -> None:
    [path] = Path("out/_cfaudit").rglob("*.json")
    with path.open("r+b") as file:
        file.truncate(1 << 30)  # a hole, which takes no disk
    done = cli(*GIVEN)
    assert done.code == 1
    assert f"Manifest 00000001  INVALID: invalid format: it is larger than {LARGEST >> 20} MiB" in done.out


def test_names_that_attackers_chose_are_written_safely(cli: Cli, sealed: Link) -> None:
    [path] = Path("out").rglob("*.parquet")
    path.with_name("\x1b[31mred.parquet").write_bytes(b"x")
    done = cli(*GIVEN)
    assert done.code == 1
    assert "\\x1b[31mred.parquet  INVALID: no manifest names it" in done.out
    assert "\x1b" not in done.out
