"""The page about the sink says what the sink does."""

from __future__ import annotations

import dataclasses
import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.convert import to_config
from cfaudit_splunk import SplunkConfig
from cfaudit_splunk.deliver import _MOST_WAITING

PAGE = (Path(__file__).parents[3] / "docs" / "sinks" / "splunk.md").read_text()


def test_the_page_lists_every_setting_with_its_default_and_no_other() -> None:
    table = PAGE[PAGE.index("## Settings") :]
    told = dict(re.findall(r"^\| `(\w+)` \| *`?([^`|]*?)`? *\|", table, re.MULTILINE))
    actual = {}
    for field in dataclasses.fields(SplunkConfig):
        default = "" if field.default in (None, dataclasses.MISSING) else field.default
        actual[field.name] = str(default).lower() if isinstance(default, bool) else str(default)
    assert told == actual


def test_the_settings_of_the_example_fit() -> None:
    example: dict[str, Any] = tomllib.loads(re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)[0])
    assert to_config(SplunkConfig, example["sinks"]["splunk"], "sinks.splunk").index == "cloudflare"


def test_the_page_says_what_follows_from_every_code(hec: Any) -> None:
    table = PAGE[PAGE.index("## What Splunk says") :]
    told = {int(code) for codes in re.findall(r"^\| ([\d, ]+) \|", table, re.MULTILINE) for code in codes.split(", ")}
    assert told == set(hec.TEXTS) - {17}  # 17 is only said about health


def test_the_page_says_how_much_a_crash_may_repeat() -> None:
    assert f"at most {_MOST_WAITING + 1} |" in PAGE


@pytest.mark.parametrize("key", ["time", "fields", "event"])
def test_the_example_event_has_the_parts_that_are_sent(key: str, splunk: Any, new_sink: Any, tmp_path: Path) -> None:
    import json

    from cfaudit_export.testing import make_batch

    example = json.loads(re.findall(r"```json\n(.*?)```", PAGE, re.DOTALL)[0])
    splunk.collector.tokens["token-plain"].indexes = ("cloudflare",)
    new_sink(splunk, index="cloudflare").load(make_batch(tmp_path, rows=1))
    sent = json.loads(splunk.collector.kept[0])
    assert set(example) == set(sent)
    if key != "time":
        assert set(example[key]) <= set(sent[key])
