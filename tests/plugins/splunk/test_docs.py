"""The page about the sink says what the sink does."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.plugin.config import to_config
from cfaudit_splunk import SplunkConfig
from cfaudit_splunk.deliver import _MOST_WAITING


@pytest.fixture
def page(page_about: Any) -> Any:
    return page_about("splunk")


def test_the_page_lists_every_setting_with_its_default_and_no_other(page: Any) -> None:
    assert page.settings() == page.settings_of(SplunkConfig)


def test_the_settings_of_the_example_fit(page: Any) -> None:
    assert to_config(SplunkConfig, page.example()["sinks"]["splunk"], "sinks.splunk").index == "cloudflare"


def test_the_page_says_what_follows_from_every_code(page: Any, hec: Any) -> None:
    told = {
        int(code)
        for codes in re.findall(r"^\| ([\d, ]+) \|", page.section("What Splunk says, and what follows"), re.MULTILINE)
        for code in codes.split(", ")
    }
    assert told == set(hec.TEXTS) - {17}  # 17 is only said about health


def test_the_page_says_how_much_a_crash_may_repeat(page: Any) -> None:
    assert f"at most {_MOST_WAITING + 1} |" in page.text


@pytest.mark.parametrize("key", ["time", "fields", "event"])
def test_the_example_event_has_the_parts_that_are_sent(
    page: Any, key: str, splunk: Any, new_sink: Any, tmp_path: Path
) -> None:
    import json

    from cfaudit_export.testing import make_batch

    example = json.loads(page.blocks("json")[0])
    splunk.collector.tokens["token-plain"].indexes = ("cloudflare",)
    new_sink(splunk, index="cloudflare").load(make_batch(tmp_path, rows=1))
    sent = json.loads(splunk.collector.kept[0])
    assert set(example) == set(sent)
    if key != "time":
        assert set(example[key]) <= set(sent[key])
