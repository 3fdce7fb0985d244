"""The page about S3 says what the plugin does."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.core.times import parse_duration
from cfaudit_export.plugin.config import to_config
from cfaudit_export.schema import COLUMNS
from cfaudit_export.testing import make_batch
from cfaudit_s3 import S3Access, S3Config, S3StoreConfig


@pytest.fixture
def page(page_about: Any) -> Any:
    return page_about("s3")


def test_the_page_lists_every_setting_with_its_default_and_no_other(page: Any) -> None:
    told = page.settings()
    assert parse_duration(told.pop("lease")) == S3StoreConfig(bucket="b").lease
    assert told == page.settings_of(S3Config)
    assert list(told)[: len(dataclasses.fields(S3Access))] == list(page.settings_of(S3Access))
    assert f"prefix is `{S3StoreConfig(bucket='b').prefix}` by default" in page.section("Settings")


def test_the_settings_of_the_example_fit(page: Any) -> None:
    example = page.example()
    assert to_config(S3Config, example["sinks"]["s3"], "sinks.s3").sse == "aws:kms"
    assert example["checkpoint"].pop("store") == "s3"
    assert to_config(S3StoreConfig, example["checkpoint"], "checkpoint").bucket == "example-audit"


def test_the_policy_grants_what_a_load_and_a_check_ask_for_and_no_more(
    page: Any, behind: Any, weather: Any, tmp_path: Path
) -> None:
    """The right to remove is used where it is there, and is not needed."""
    sink = behind.sink()
    weather.strike("abort", (403, "AccessDenied"), times=1)
    sink.check()
    for days in (1, 2):
        batch = make_batch(tmp_path, rows=4, days=days, seed=days)
        sink.load(batch)
        sink.load(batch)
    rights = {"PUT": "s3:PutObject", "POST": "s3:PutObject", "GET": "s3:GetObject", "HEAD": "s3:GetObject"}
    used = {
        "s3:AbortMultipartUpload" if seen.what.endswith("abort") else rights.get(seen.method, "s3:DeleteObject")
        for seen in weather.seen
    }
    (policy, listing, _) = map(json.loads, page.blocks("json"))
    assert used - {"s3:DeleteObject"} == set(policy["Statement"][0]["Action"])
    assert listing["Statement"][0]["Action"] == "s3:ListBucket"


def test_the_table_for_athena_has_the_columns_of_the_schema(page: Any) -> None:
    kinds = {"string": "string", "json": "string", "timestamp": "timestamp", "int32": "int"}
    ddl = page.blocks("sql")[0]
    told = re.findall(r"^  (\w+) (\w+),?$", ddl, re.MULTILINE)
    assert told == [(column.name, kinds[column.kind]) for column in COLUMNS if column.name != "account_id"]
    assert "PARTITIONED BY (account_id string, event_date string)" in ddl
