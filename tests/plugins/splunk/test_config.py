from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import SettingsError
from cfaudit_export.plugin.config import to_config
from cfaudit_splunk import SplunkConfig

URL = "https://splunk.example.com:8088"


def config(**table: Any) -> SplunkConfig:
    return to_config(SplunkConfig, {"url": URL, **table}, "sinks.splunk", strict=False)


@pytest.mark.parametrize(
    "url",
    [
        URL,
        f"{URL}/",
        f"{URL}/services/collector",
        f"{URL}/services/collector/event",
        f"{URL}/services/collector/event/1.0",
    ],
)
def test_the_path_of_the_collector_may_be_given_or_left_out(url: str) -> None:
    assert config(url=url).bases == (URL,)


def test_a_path_before_the_collectors_is_kept() -> None:
    assert config(url=f"{URL}/splunk/services/collector").bases == (f"{URL}/splunk",)


def test_several_urls_are_a_list_and_each_counts_once() -> None:
    other = "https://other.example.com"
    assert config(url=[URL, other, f"{URL}/services/collector"]).bases == (URL, other)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"url": []}, "at least one"),
        ({"url": "splunk.example.com"}, "must look like https"),
        ({"url": "ftp://splunk.example.com"}, "must look like https"),
        ({"url": "http://splunk.example.com:8088"}, "unencrypted; use https, or set allow_http"),
        ({"url": [URL, "http://10.0.0.1"]}, "unencrypted"),
        ({"max_bytes": 0}, "max_bytes must be from 1"),
        ({"max_bytes": 5 * 2**20 + 1}, "max_bytes must be from 1 to 5242880"),
        ({"max_events": 0}, "max_events"),
        ({"ack": "yes"}, "must be one of auto, off, on"),
        ({"ack_poll_seconds": 0}, "ack_poll_seconds must be more than 0"),
        ({"timeout_seconds": "nan"}, "timeout_seconds must be more than 0"),
        ({"retry_seconds": -1}, "retry_seconds must not be negative"),
        ({"token": "1234"}, "unknown key 'sinks.splunk.token'"),
    ],
)
def test_settings_that_cannot_work_are_refused(table: dict[str, Any], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        config(**table)


@pytest.mark.parametrize("url", ["https://x:secret@splunk.example.com", "https://splunk.example.com?token=secret"])
def test_a_token_in_the_url_is_refused_and_not_shown(url: str) -> None:
    with pytest.raises(SettingsError, match="token_env") as refusal:
        config(url=url)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8088", "http://[::1]:8088", "http://localhost:8088"])
def test_the_loopback_needs_no_encryption(url: str) -> None:
    assert config(url=url).bases == (url,)


def test_a_network_without_encryption_must_be_asked_for() -> None:
    assert config(url="http://10.0.0.1:8088", allow_http=True).bases == ("http://10.0.0.1:8088",)


def test_texts_stand_for_what_the_environment_cannot_say_otherwise() -> None:
    given = config(max_bytes="2000", gzip="false", ca_file="/etc/ca.pem", retry_seconds="1.5")
    assert (given.max_bytes, given.gzip, given.ca_file, given.retry_seconds) == (
        2000,
        False,
        Path("/etc/ca.pem"),
        1.5,
    )
