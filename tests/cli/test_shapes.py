"""`sql --shape` and `schema --format sql-view`: exported events in the words of others."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Cli = Callable[..., Any]


def test_sql_offers_a_view_in_the_shape_that_is_asked_for(cli: Cli, exported: Any, place: Path) -> None:
    query = "select json_strip_nulls(to_json(o)) as event from ocsf_events o order by time limit 1"
    done = cli("sql", *exported.where, "--shape", "ocsf", "--shape-version", "1.6.0", "--format", "ndjson", query)
    assert done.code == 0, done.err
    event = json.loads(done.out)["event"]
    event = json.loads(event) if isinstance(event, str) else event
    assert event["metadata"]["version"] == "1.6.0"
    assert event["metadata"]["product"]["vendor_name"] == "Cloudflare"


def test_the_view_is_printed_for_other_programs(cli: Cli, place: Path) -> None:
    done = cli("schema", "--format", "sql-view", "--shape", "ocsf")
    assert done.code == 0
    assert done.out.startswith("CREATE VIEW ocsf_events AS\nWITH filled AS (")
    assert done.out.rstrip().endswith("FROM shaped;")


@pytest.mark.parametrize(
    ("given", "code", "said"),
    [
        (("schema", "--format", "sql-view", "--shape", "ocfs"), 78, "unknown shape 'ocfs'; did you mean 'ocsf'?"),
        (("schema", "--format", "sql-view", "--shape", "ocsf", "--shape-version", "2"), 78, "known are 1.8.0, 1.6.0"),
        (("schema", "--format", "sql-view"), 2, "need each other"),
        (("schema", "--shape", "ocsf"), 2, "need each other"),
        (("sql", "--shape-version", "1.8.0", "select 1"), 2, "--shape-version needs --shape"),
        (("sql", "--shape", "oscf", "select 1"), 78, "unknown shape 'oscf'"),
    ],
)
def test_what_is_not_known_is_named(cli: Cli, place: Path, given: tuple[str, ...], code: int, said: str) -> None:
    done = cli(*given)
    assert (done.code, done.out) == (code, "")
    assert said in done.line
