"""`verify --source`: exports over real HTTP, spoiled in every way a file can be, and compared with their server."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import trustme

from cfaudit_export.core.seal import sealed
from cfaudit_sandbox import Sandbox, SandboxOptions, World

HOUR = timedelta(hours=1)
SPAN = 10 * 86_400.0


@dataclass(frozen=True)
class Made:
    """An export of a sandbox, made by the command line."""

    sandbox: Sandbox
    cli: Callable[..., Any]
    source: str

    @property
    def account(self) -> str:
        return self.sandbox.world.accounts[0].id

    @property
    def options(self) -> tuple[str, ...]:
        url = self.sandbox.mcp_url if self.source == "auditlogs" else self.sandbox.codemode_url
        pairs = (f"source={self.source}", f"sources.{self.source}.budget_calls=0", "sinks.parquet.path=out")
        given = ("--server-url", url, "--account", self.account, "--sink", "parquet", "--state-dir", "state")
        return (*given, *(word for pair in pairs for word in ("-o", pair)))

    def run(self, *more: str) -> Any:
        return self.cli("run", *self.options, "--recover", "off", "--since", "12d", "--settle-lag", "0s", *more)

    def verify(self, *more: str) -> tuple[int, dict[str, Any], str]:
        done = self.cli("verify", "--source", *self.options, "--json", *more)
        return done.code, json.loads(done.out)[0] if done.out.strip() else {}, done.err

    def change(self, change: Callable[[pa.Table], pa.Table]) -> None:
        """Change the rows of the largest file, as a person might who means well."""
        path = max(Path("out").rglob("*.parquet"), key=lambda one: pq.read_metadata(one).num_rows)
        table = pq.read_table(path, partitioning=None)
        path.unlink()
        # Without its digests: a file that another program wrote is believed, one that is damaged is not.
        pq.write_table(change(table).replace_schema_metadata(None), path)

    def rows(self) -> list[dict[str, Any]]:
        files = sorted(Path("out").rglob("*.parquet"))
        return [row for path in files for row in pq.read_table(path, partitioning=None).to_pylist()]


BOTH = pytest.mark.parametrize("source", ["auditlogs", "codemode"])
CODEMODE = pytest.mark.parametrize("source", ["codemode"])


@pytest.fixture
def source() -> str:
    return "auditlogs"


@pytest.fixture(autouse=True)
def _small_certificate_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here speaks TLS, and a store with one certificate is read in no time."""
    trustme.CA().cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))


@pytest.fixture
def made(source: str, cli: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Made]:
    world = World(SandboxOptions(events=300, span_seconds=SPAN, ties=0.2, twins=0.1, seed=3))
    with Sandbox(world) as sandbox:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", world.tokens["account"])
        made = Made(sandbox, cli, source)
        done = made.run()
        assert done.code == 0, done.err
        yield made


def kinds(answer: dict[str, Any]) -> list[str]:
    return [one["what"] for one in answer["differences"]]


def without(table: pa.Table, at: int) -> pa.Table:
    return pa.concat_tables([table.slice(0, at), table.slice(at + 1)])


@BOTH
def test_an_export_is_equal_to_its_source(made: Made) -> None:
    code, answer, said = made.verify("--all", "--by-filter")
    assert code == 0, said
    assert answer["differences"] == []
    assert answer["source_rows"] == answer["export_rows"] == 300
    assert len(answer["compared"]) == answer["parts"]
    assert f"comparing {answer['parts']} of {answer['parts']} parts, 300 exported events: about " in said


@BOTH
def test_a_row_that_was_deleted_is_missing_and_repair_brings_it_back_once(made: Made) -> None:
    gone: list[str] = []

    def delete(table: pa.Table) -> pa.Table:
        gone.extend(table["event_key"].to_pylist()[1:2])
        return without(table, 1)

    made.change(delete)
    code, answer, _ = made.verify("--all")
    assert code == 65
    assert [(one["what"], one["event_key"]) for one in answer["differences"]] == [("missing", gone[0])]

    code, answer, _ = made.verify("--all", "--repair")
    assert (code, kinds(answer)) == (65, ["missing"])
    assert made.cli("gaps", "--state-dir", "state").code == 65
    done = made.cli("gaps", "--retry", *made.options, "--settle-lag", "0s")
    assert done.code == 0, done.err
    code, answer, _ = made.verify("--all")
    assert (code, answer["differences"]) == (0, [])
    assert len({row["event_id"] for row in made.rows()}) == len(made.rows()) == 300


@CODEMODE
def test_the_next_run_repairs_as_well(made: Made) -> None:
    made.change(lambda table: table.slice(3))
    assert kinds(made.verify("--all", "--repair")[1]) == ["missing"] * 3
    assert made.run().code == 0
    assert made.verify("--all")[0] == 0
    assert len(made.rows()) == 300


def test_a_row_that_no_source_has_is_extra_and_so_is_one_that_stands_twice(made: Made) -> None:
    def add(table: pa.Table) -> pa.Table:
        first = table.slice(0, 1)
        at = table.schema.get_field_index("event_key")
        made_up = first.set_column(at, table.schema.field(at), pa.array(["ab" * 32], pa.string()))
        return pa.concat_tables([first, made_up, table])

    made.change(add)
    code, answer, _ = made.verify("--all", "--repair")
    assert (code, kinds(answer)) == (65, ["extra", "extra"])
    assert len(made.rows()) == 302, "what only the export has is never removed"
    assert json.loads(made.cli("gaps", "--json", "--state-dir", "state").out) == []


@CODEMODE
def test_latecomers_are_missing_until_a_run_brings_them(made: Made) -> None:
    now = datetime.now(UTC)
    made.sandbox.world.grow(made.account, 5, now - 3 * HOUR, now - 2 * HOUR)
    code, answer, _ = made.verify("--since", "5h")
    assert (code, kinds(answer)) == (65, ["missing"] * 5)
    assert made.run().code == 0
    assert made.verify("--since", "5h")[0] == 0


def test_a_sample_is_the_same_for_the_same_seed_and_costs_what_was_said(made: Made) -> None:
    first, again, other = (made.verify("--sample", "3", "--seed", seed) for seed in ("1", "1", "2"))
    assert first[1]["compared"] == again[1]["compared"] != other[1]["compared"]
    assert len(first[1]["compared"]) == 3
    assert first[1]["parts"] > 8
    said = int(first[2].partition("about ")[2].partition(" calls")[0])
    per_page = 2 if made.source == "auditlogs" else 1  # of an account token
    assert first[1]["calls"] * per_page <= said + 3 * per_page


def test_the_table_is_for_people(made: Made) -> None:
    made.change(lambda table: without(table, 0))
    done = made.cli("verify", "--source", *made.options, "--all")
    assert done.code == 65
    head, row, last = done.out.splitlines()
    assert head.split() == ["what", "time", "event_key"]
    assert row.startswith("missing")
    assert last.startswith(f"account {made.account}: 1 missing; 300 events in the source, 299 in the export, in ")


def test_without_a_checkpoint_the_time_has_to_be_said(made: Made) -> None:
    options = [word if word != "state" else "elsewhere" for word in made.options]
    done = made.cli("verify", "--source", *options)
    assert (done.code, "--since" in done.err) == (2, True)
    done = made.cli("verify", "--source", *options, "--since", "11d", "--until", "1h", "--all")
    assert done.code == 0, done.err


def test_rejected_rows_are_known_gaps_and_new_ones_are_told(cli: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    options = SandboxOptions(events=200, span_seconds=SPAN, poison={"api-context": 2}, seed=5)
    with Sandbox(World(options)) as sandbox:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", sandbox.world.tokens["account"])
        made = Made(sandbox, cli, "auditlogs")
        assert made.run().code == 65
        code, answer, said = made.verify("--all")
        assert (code, answer["differences"]) == (0, []), said
        [path] = Path("state/checkpoints").glob("*.json")
        document = json.loads(path.read_text())
        document["gaps"] = []
        del document["digest"]
        path.write_bytes(sealed(json.dumps(document, indent=2).encode()))
        code, answer, _ = made.verify("--all")
        assert (code, set(kinds(answer))) == (65, {"unreadable"})
        assert len(answer["differences"]) >= 2


def test_an_export_with_gaps_that_another_source_filled_is_compared_by_the_first_one(
    cli: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(SandboxOptions(events=200, span_seconds=SPAN, poison={"all": 3}, seed=3))
    with Sandbox(world) as sandbox:
        monkeypatch.setenv("CLOUDFLARE_API_TOKEN", world.tokens["account"])
        urls = f"sources.codemode.server_url={sandbox.codemode_url}"
        fill = ("-o", "fill_gaps_from=codemode", "-o", urls)
        made = Made(sandbox, cli, "auditlogs")
        done = made.run(*fill)
        assert done.code == 0, done.err
        assert {row["source"] for row in made.rows()} == {"auditlogs", "codemode"}
        code, answer, said = made.verify("--all", *fill)
        assert code == 0, (answer, said)
        assert answer["differences"] == []
        made.change(lambda table: without(without(table, 9), 4))
        assert kinds(made.verify("--all", *fill)[1]) == ["missing", "missing"]
