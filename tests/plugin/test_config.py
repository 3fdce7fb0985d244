"""Tables into dataclasses: what fits is typed, what does not is named by its path, and no secret is repeated."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal

import pytest

from cfaudit_export import SettingsError
from cfaudit_export.plugin.config import to_config


@dataclass(frozen=True, slots=True)
class Retry:
    attempts: int
    wait: timedelta = timedelta(seconds=1)
    password: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Config:
    path: Path
    spare: Path | None = None
    port: int = 8088
    ratio: float = 0.5
    verify: bool = True
    wait: timedelta = timedelta(seconds=30)
    compression: Literal["zstd", "none"] = "zstd"
    tags: tuple[str, ...] = ()
    retry: Retry | None = None
    targets: dict[str, Retry] = field(default_factory=dict)
    token: str = field(default="", repr=False)
    mode: Literal["fast", "safe"] = field(default="safe", repr=False)
    headers: dict[str, str] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        if self.port == 9:
            raise ValueError(f"port 9 throws everything away, also the token '{self.token}'")


def convert(strict: bool = True, **table: Any) -> Config:  # noqa: FBT001, FBT002  # always given by name
    return to_config(Config, {"path": "out"} | table, "sinks.demo", strict=strict)


def test_a_table_becomes_a_typed_config() -> None:
    assert convert(
        port=1,
        ratio=1,
        verify=False,
        wait="1m30s",
        compression="none",
        tags=["a", "b"],
        retry={"attempts": 3, "wait": "250ms"},
        targets={"any name": {"attempts": 1}},
        token="t",
    ) == Config(
        Path("out"),
        None,
        1,
        1.0,
        verify=False,
        wait=timedelta(seconds=90),
        compression="none",
        tags=("a", "b"),
        retry=Retry(3, timedelta(milliseconds=250)),
        targets={"any name": Retry(1)},
        token="t",
    )


def test_the_given_table_is_left_as_it_is() -> None:
    table = {"path": "~/x", "wait": "5s", "retry": {"attempts": 1, "wait": "5s"}}
    to_config(Config, table, "sinks.demo")
    assert table == {"path": "~/x", "wait": "5s", "retry": {"attempts": 1, "wait": "5s"}}


def test_home_is_expanded_in_paths(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    config = convert(path="~/audit", spare="~/spare")
    assert (config.path, config.spare) == (tmp_path / "audit", tmp_path / "spare")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ({"pth": "x"}, "unknown key 'sinks.demo.pth'; did you mean 'path'? (known: path, spare, port, "),
        ({"zzz": "x"}, "unknown key 'sinks.demo.zzz' (known: path, "),
        ({"retry": {"attempt": 1}}, "unknown key 'sinks.demo.retry.attempt'; did you mean 'attempts'?"),
        ({"targets": {"a": {"zzz": 1}}}, "unknown key 'sinks.demo.targets.a.zzz' (known: attempts, wait, passw"),
        ({"retry": {}}, "'sinks.demo.retry.attempts' is missing"),
        ({"port": "8088"}, "'sinks.demo.port': expected int, got str"),
        ({"port": True}, "'sinks.demo.port': expected int, got bool"),
        ({"verify": 1}, "'sinks.demo.verify': expected bool, got int"),
        ({"token": 5}, "'sinks.demo.token': expected str, got int"),
        ({"tags": "a"}, "'sinks.demo.tags': expected array, got str"),
        ({"tags": ["a", 5]}, "'sinks.demo.tags[1]': expected str, got int"),
        ({"retry": 5}, "'sinks.demo.retry': expected table | null, got int"),
        ({"path": 5}, "'sinks.demo.path': expected a path, got int"),
        ({"path": ""}, "'sinks.demo.path': expected a path, got an empty text"),
        ({"path": "~nobody-here/x"}, "'sinks.demo.path': unknown user in path '~nobody-here'"),
        ({"compression": "gzip"}, "'sinks.demo.compression' must be one of none, zstd, not 'gzip'"),
        ({"wait": "soon"}, "'sinks.demo.wait': expected a duration such as '30s', '12h' or '7d', not 'soon'"),
        ({"wait": 30}, "'sinks.demo.wait': expected duration, got int"),
        ({"retry": {"attempts": 1, "wait": "1 h"}}, "'sinks.demo.retry.wait': expected a duration such as"),
        ({"port": 9}, "'sinks.demo': port 9 throws everything away"),
    ],
)
def test_what_does_not_fit_is_one_line_that_names_the_key(table: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingsError) as caught:
        convert(**table)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_named_with_how_to_set_it() -> None:
    words = r"^'sinks\.demo\.path' is missing; set it in the settings file, or with -o sinks\.demo\.path=VALUE$"
    with pytest.raises(SettingsError, match=words):
        to_config(Config, {}, "sinks.demo")


@pytest.mark.parametrize(
    "table",
    [
        {"port": 9, "token": "hunter2"},
        {"mode": "hunter2"},
        {"headers": {"a": "hunter2"}, "compression": "hunter2"},
        {"retry": {"attempts": "x", "password": "hunter2"}, "wait": "hunter2"},
        {"targets": {"a": {"attempts": 1, "password": "hunter2"}}, "compression": "hunter2"},
    ],
)
def test_the_value_of_a_hidden_field_is_in_no_error_and_no_cause(table: dict[str, Any]) -> None:
    with pytest.raises(SettingsError) as caught:
        convert(**table)
    assert "hunter2" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_texts_of_the_environment_are_coerced_only_when_asked() -> None:
    table = {"port": "9090", "ratio": "0.25", "verify": "false", "wait": "2h", "retry": {"attempts": "4"}}
    config = convert(strict=False, **table)
    assert (config.port, config.ratio, config.verify) == (9090, 0.25, False)
    assert (config.wait, config.retry) == (timedelta(hours=2), Retry(4))
    with pytest.raises(SettingsError, match=r"'sinks\.demo\.port': expected int, got str"):
        convert(strict=False, port="many")


def test_a_field_that_no_setting_can_be_is_an_error_at_its_key() -> None:
    @dataclass(frozen=True)
    class Odd:
        clock: complex

    with pytest.raises(SettingsError, match=r"'x\.clock': expected complex, which no setting can be"):
        to_config(Odd, {"clock": "now"}, "x")
