"""The page about BigQuery says what the plugin does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from cfaudit_bigquery import BigQueryConfig
from cfaudit_bigquery.attempts import _MOST_REFUSED
from cfaudit_bigquery.columns import CLUSTER, PARTITION
from cfaudit_bigquery.faults import _LATER, _PASSING, DestinationNames, PassingError, fault
from cfaudit_export import SinkError
from cfaudit_export.plugin.config import to_config
from cfaudit_export.schema_formats import as_bigquery
from cfaudit_export.testing import make_batch

FIELDS = json.loads(as_bigquery())


@pytest.fixture
def page(page_about: Any) -> Any:
    return page_about("bigquery")


def named(text: str) -> set[str]:
    return set(re.findall(r"`([\w.]+)`", text))


def test_the_page_lists_every_setting_with_its_default_and_no_other(page: Any) -> None:
    assert page.settings() == page.settings_of(BigQueryConfig)


def test_the_settings_of_the_example_fit(page: Any) -> None:
    assert to_config(BigQueryConfig, page.example()["sinks"]["bigquery"], "sinks.bigquery").location == "EU"


def test_the_page_names_the_permissions_that_are_needed_and_no_more(standin: Any, page: Any, tmp_path: Path) -> None:
    rows = re.findall(r"^\| (`bigquery\..*?) \| .*? \| (.*?) \|", page.section("Rights"), re.MULTILINE)

    def told(*settings: str) -> set[str]:
        return {name for names, when in rows if any(text in when for text in settings) for name in named(names)}

    def needed_by(number: int, **settings: Any) -> set[str]:
        """Check, ask and load, twice, as the second time more may be there."""
        standin.say("forget-needs")
        batch = make_batch(tmp_path, rows=3, seed=number)
        for _ in range(2):
            sink = standin.sink(**settings)
            sink.check()
            sink.find("0" * 32, batch.window)
            sink.load(batch)
            sink.close()
        return set(standin.needed())

    standin.make_table_as_the_sink_does()
    assert needed_by(1, create=False) == told("always")
    assert needed_by(2, create=False, merge=True) == told("always", "merge = true")
    standin.say("drop", name="proj.audit.events")
    standin.make_table(FIELDS[:-1])
    assert needed_by(3) == told("always", "add columns")
    standin.say("drop", name="proj.audit.events")
    assert needed_by(4) == told("always", "make the table")


def test_the_page_says_what_follows_from_every_fault(page: Any) -> None:
    rows = re.findall(r"^\| (`.*?) \| (\d+) \| (.*?) \|", page.section("What errors mean"), re.MULTILINE)
    passing, later, never = (named(names) for names, _, _ in rows)
    assert (passing, later) == (set(_PASSING), set(_LATER))
    for names, code, _ in rows:
        for reason in named(names):
            found = fault(reason, 403, "so", DestinationNames("p", "d"))
            error = found.error if isinstance(found, PassingError) else found
            assert isinstance(error, SinkError)
            assert error.exit_code == int(code), reason
    assert never
    assert f"At most {_MOST_REFUSED} of a batch" in page.section("What errors mean")


def test_the_page_says_how_the_table_is_laid_out(page: Any) -> None:
    clustering = ", ".join(f"`{name}`" for name in CLUSTER)
    assert f"Partitioned by the day of `{PARTITION}` (UTC), clustered by {clustering}" in page.section("The table")


def test_the_page_names_the_json_columns(page: Any) -> None:
    first = page.section("JSON columns").split(" have the type JSON")[0]
    assert named(first) == {field["name"] for field in FIELDS if field["type"] == "JSON"}
