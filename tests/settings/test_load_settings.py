from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export.errors import SettingsError, UsageError
from cfaudit_export.settings import Given, Integrity, Settings, load_settings

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
ACCOUNT = "0123456789abcdef0123456789abcdef"

Load = Callable[..., Settings]


@pytest.fixture
def load(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Load:
    """Load from flags, pairs, variables and the text of `cfaudit.toml`; nothing else is around."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def load_(
        flags: dict[str, Any] | None = None,
        pairs: list[str] | None = None,
        environ: dict[str, str] | None = None,
        toml: str | None = None,
        config: Path | None = None,
    ) -> Settings:
        if toml is not None:
            (tmp_path / "cfaudit.toml").write_text(toml, "utf-8")
        given = Given(config, pairs or [], flags or {})
        return load_settings(given, environ=environ or {}, now=NOW, directory=tmp_path)

    return load_


def test_without_anything_given_the_defaults_count(load: Load, tmp_path: Path) -> None:
    assert load() == Settings(state_dir=tmp_path / "state" / "cfaudit-export")


def test_flags_win_then_pairs_then_variables_then_the_file(load: Load) -> None:
    toml, environ, pairs, flags = (
        'settle_lag = "4m"',
        {"CFAUDIT_SETTLE_LAG": "3m"},
        ["settle_lag=2m"],
        {"settle_lag": "1m"},
    )
    assert load(toml=toml).settle_lag == timedelta(minutes=4)
    assert load(toml=toml, environ=environ).settle_lag == timedelta(minutes=3)
    assert load(toml=toml, environ=environ, pairs=pairs).settle_lag == timedelta(minutes=2)
    assert load(toml=toml, environ=environ, pairs=pairs, flags=flags).settle_lag == timedelta(minutes=1)


def test_every_layer_adds_to_the_tables_of_plugins(load: Load) -> None:
    settings = load(
        {"server_url": "http://127.0.0.1:1/mcp"},
        ["sinks.parquet.path=out", "sinks.s3.tags=['a', 'b']"],
        {"CFAUDIT_SINKS__S3__BUCKET": "from-variable", "CFAUDIT_CHECKPOINT__STORE": "s3"},
        '[sinks.s3]\nbucket = "from-file"\nprefix = "x"\n[sources.auditlogs]\npage_size = 500\n',
    )
    assert settings.sinks == {
        "parquet": {"path": "out"},
        "s3": {"bucket": "from-variable", "prefix": "x", "tags": ["a", "b"]},
    }
    assert settings.sources == {"auditlogs": {"page_size": 500, "server_url": "http://127.0.0.1:1/mcp"}}
    assert settings.checkpoint == {"store": "s3"}


def test_short_forms_belong_to_the_chosen_source_and_a_higher_layer_wins(load: Load) -> None:
    settings = load(
        {"source": "codemode", "concurrency": "8"},
        ["sources.codemode.server_url=http://127.0.0.1:2/mcp"],
        {"CFAUDIT_SERVER_URL": "http://127.0.0.1:3/mcp", "CFAUDIT_HEADER": "X-A=VAR_A,X-B=VAR_B"},
    )
    assert settings.server_url == "http://127.0.0.1:2/mcp"
    assert settings.header == {"X-A": "VAR_A", "X-B": "VAR_B"}
    assert settings.sources["codemode"]["concurrency"] == 8


def test_a_whole_file_is_understood(load: Load) -> None:
    settings = load(
        toml=f"""
account = "{ACCOUNT.upper()}"
sink = ["parquet", "s3", "parquet"]
since = 2026-11-01
until = 2026-11-08T00:00:00+01:00
max_wait = "10m"
verbosity = 1
header = {{ X-Key = "GATEWAY_KEY" }}
recover = "off"
[filters]
actor_email = "ada@example.com"
raw_status_code = 403
action_result = ""
"""
    )
    assert settings.account == (ACCOUNT,)
    assert settings.sink == ("parquet", "s3")
    assert settings.since == datetime(2026, 11, 1, tzinfo=UTC)
    assert settings.until == datetime(2026, 11, 7, 23, tzinfo=UTC)
    assert settings.max_wait == timedelta(minutes=10)
    assert settings.verbosity == 1
    assert settings.header == {"X-Key": "GATEWAY_KEY"}
    assert settings.recover == {"mode": "off"}
    assert settings.filters == {"actor_email": "ada@example.com", "raw_status_code": "403", "action_result": ""}


def test_the_table_of_proof_is_read_and_its_key_has_a_short_variable(load: Load) -> None:
    assert load().integrity == Integrity()
    environ = {"CFAUDIT_SIGNING_KEY_FILE": "/run/secrets/a.pem", "CFAUDIT_INTEGRITY__PATH": "s3://proof/x"}
    assert load(environ=environ).integrity == Integrity(key_file=Path("/run/secrets/a.pem"), path="s3://proof/x")
    with pytest.raises(SettingsError, match="did you mean 'CFAUDIT_SIGNING_KEY_FILE'"):
        load(environ={"CFAUDIT_SIGNING_KEY_FILES": "x"})
    assert load(toml='[integrity]\nkey_file = "~/a.pem"\nmanifests = false\nlock_days = 30').integrity == Integrity(
        key_file=Path("~/a.pem").expanduser(), manifests=False, lock_days=30
    )
    with pytest.raises(SettingsError, match="unknown key 'integrity.keyfile'"):
        load(toml='[integrity]\nkeyfile = "x"')


def test_times_ago_count_from_now(load: Load) -> None:
    settings = load({"since": "7d", "until": "12h"})
    assert (settings.since, settings.until) == (NOW - timedelta(days=7), NOW - timedelta(hours=12))


def test_recover_is_a_word_or_a_table(load: Load) -> None:
    table = '[recover]\nmode = "all"\nzone_name = ["example.com"]\n'
    assert load(toml=table).recover == {"mode": "all", "zone_name": ("example.com",)}
    assert load({"recover": "off"}, toml=table).recover == {"mode": "off", "zone_name": ("example.com",)}


def test_values_to_recover_by_are_a_list(load: Load) -> None:
    assert load(pairs=['recover.actor_id=["a", "b"]']).recover == {"mode": "auto", "actor_id": ("a", "b")}
    with pytest.raises(SettingsError, match="-o recover: expected a name or a list of names"):
        load(pairs=["recover.zone_name={a = 1}"])
    assert load(environ={"CFAUDIT_RECOVER__ZONE_NAME": "a,b"}).recover == {"mode": "auto", "zone_name": ("a", "b")}


@pytest.mark.parametrize(
    ("toml", "message"),
    [
        ("setle_lag = '5m'", r"unknown key 'setle_lag' in '.*cfaudit.toml'; did you mean 'settle_lag'\?"),
        ("[filters]\nactor_mail = 'x'", r"unknown key 'filters.actor_mail' in .*did you mean 'filters.actor_email'\?"),
        ("[sink.parquet]\npath = 'x'", r"'sink' in .* takes names; the settings of one belong in \[sinks.NAME\]"),
        ("[snks.parquet]\npath = 'x'", r"unknown key 'snks' in .*; did you mean 'sinks'\?"),
        ("sinks = 'parquet'", r"'sinks' in .* must hold tables, as in \[sinks.NAME\]"),
        ("[sinks]\nparquet = 'out'", r"'sinks' in .* must hold tables, as in \[sinks.NAME\]"),
        ("checkpoint = 's3'", r"'checkpoint' in .* must hold tables, as in \[checkpoint\]"),
        ("filters = 'x'", r"'filters' in .* must be a table, as in \[filters\]"),
        ("since = 'x'", r"'since' in '.*cfaudit.toml': expected a time such as"),
        ("since = 12:00:00", r"'since' in .*: expected a time, not a time of day"),
        ("settle_lag = 300", r"expected a duration such as '30s', '12h' or '7d', not '300'"),
        (
            "account = 'zzz'",
            r"expected account ids of 32 hexadecimal digits, as in the dashboard's URL, or 'all', not 'zzz'",
        ),
        ("account = [1]", r"expected a text, not '1'"),
        ("account = {}", r"expected a name or a list of names, not a table"),
        ("concurrency = 0", r"expected a whole number from 1, not '0'"),
        ("verbosity = true", r"expected a whole number from 0, not 'True'"),
        ("[filters]\nactor_context = 'dashboard'", r"expected one of api_key, api_token, dash, oauth, origin_ca_key"),
        ("[filters]\nactor_email = 'ada'", r"expected an email address, not 'ada'"),
        ("[filters]\nraw_status_code = 'teapot'", r"expected a whole number from 100, not 'teapot'"),
        ("server_url = 'localhost:8976'", r"expected a URL such as 'https://host/mcp', not 'localhost:8976'"),
        ("server_url = 'http://[::1/mcp'", r"expected a URL such as"),
        ("header = ['X-Key: secret-value']", r"expected NAME=ENVVAR, the header's name and the variable"),
        ("recover = 'maybe'", r"expected one of auto, off, all, not 'maybe'"),
        ("state_dir = ''", r"expected a text, not ''"),
        ("since = '2026-12-01'", "since lies in the future: 2026-12-01"),
        ("since = '7d'\nuntil = '8d'", "since must be earlier than until"),
        ("= 1", "'.*cfaudit.toml' is not valid TOML: Invalid .*line 1"),
    ],
)
def test_what_is_wrong_in_the_file_is_named_with_what_would_be_right(load: Load, toml: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message) as raised:
        load(toml=toml)
    assert "\n" not in str(raised.value)
    assert "secret" not in str(raised.value)


def test_a_file_that_an_editor_began_with_a_mark_of_its_encoding_is_read(load: Load) -> None:
    assert load(toml="\ufeffstate_dir = '/srv/state'").state_dir == Path("/srv/state")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ({"since": "yesterdy"}, "--since: expected a time"),
        ({"account": ["1234"]}, "--account: expected account ids"),
        ({"filters_action_result": "ok"}, "--result: expected one of success, failure, '', not 'ok'"),
    ],
)
def test_a_wrong_flag_is_wrong_usage(load: Load, flags: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        load(flags)


@pytest.mark.parametrize(
    ("pair", "error", "message"),
    [
        ("settle_lag", UsageError, "-o takes KEY=VALUE, as in -o sinks.parquet.path=out, not 'settle_lag'"),
        ("=x", UsageError, "-o takes a key such as sinks.parquet.path before '=', not ''"),
        ("a b=x", UsageError, "-o takes a key"),
        ("a\nb=x", UsageError, "-o takes a key"),
        ("setle_lag=5m", SettingsError, "unknown key 'setle_lag' in -o; did you mean 'settle_lag'?"),
        ("settle_lag=5", SettingsError, "-o settle_lag: expected a duration"),
    ],
)
def test_a_wrong_pair_is_explained(load: Load, pair: str, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message.replace("?", r"\?")):
        load(pairs=[pair])


def test_a_key_and_one_inside_it_contradict_each_other(load: Load) -> None:
    with pytest.raises(SettingsError, match="'sinks.s3.a.b' contradicts the shorter key 'a'"):
        load(pairs=["sinks.s3.a=1", "sinks.s3.a.b=2"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("out", "out"),
        ("7", "7"),
        ("a=b", "a=b"),
        ('"quoted"', "quoted"),
        ("['a', 'b']", ["a", "b"]),
        ("{ x = 1 }", {"x": 1}),
        ("[not toml", "[not toml"),
        ("", ""),
    ],
)
def test_the_value_of_a_pair_is_toml_where_it_is_a_list_a_table_or_quoted(load: Load, text: str, value: Any) -> None:
    assert load(pairs=[f"sinks.x.key={text}"]).sinks == {"x": {"key": value}}


def test_a_key_may_be_quoted_as_in_toml(load: Load) -> None:
    assert load(pairs=['sources.auditlogs.headers."X.Y"=VAR']).using("auditlogs").header == {"X.Y": "VAR"}


def test_of_two_pairs_about_a_key_the_later_counts(load: Load) -> None:
    assert load(pairs=["sinks.x.key=1", "sinks.x.key=2"]).sinks == {"x": {"key": "2"}}


@pytest.mark.parametrize(
    ("variable", "message"),
    [
        ("CFAUDIT_SETTLE_LAGG", "did you mean 'CFAUDIT_SETTLE_LAG'"),
        ("CFAUDIT_SERVER", "did you mean 'CFAUDIT_SERVER_URL'"),
        ("CFAUDIT_SINKS_PARQUET_PATH", "names within a table start with 'CFAUDIT_SINKS__'"),
        ("CFAUDIT_FILTERS__ACTOR", "unknown key 'filters.actor' in the environment"),
    ],
)
def test_a_variable_that_is_nearly_ours_is_refused(load: Load, variable: str, message: str) -> None:
    with pytest.raises(SettingsError, match=message):
        load(environ={variable: "x"})


def test_a_variable_that_is_not_ours_or_empty_is_left_alone(load: Load) -> None:
    others = {"CFAUDIT_SPLUNK_TOKEN": "x", "CFAUDIT_GATEWAY_KEY": "x", "CFAUDIT_DISABLED_PLUGINS": "x", "PATH": "x"}
    assert load(environ={**others, "CFAUDIT_SINCE": ""}) == load()


def test_a_wrong_variable_is_named(load: Load) -> None:
    with pytest.raises(SettingsError, match="CFAUDIT_RESCAN: expected a duration"):
        load(environ={"CFAUDIT_RESCAN": "often"})


def test_the_file_is_the_named_one_else_the_one_here_else_the_users(load: Load, tmp_path: Path) -> None:
    users = tmp_path / "config" / "cfaudit-export" / "cfaudit.toml"
    users.parent.mkdir(parents=True)
    users.write_text("verbosity = 3")
    named = tmp_path / "named.toml"
    named.write_text("verbosity = 1")
    assert load().file == users
    assert load().verbosity == 3
    assert load(toml="verbosity = 2").verbosity == 2
    assert load(environ={"CFAUDIT_CONFIG": str(named)}).verbosity == 1
    assert load(config=named).file == named


@pytest.mark.parametrize("content", [None, b"\xff"])
def test_a_file_that_cannot_be_read_is_named(load: Load, tmp_path: Path, content: bytes | None) -> None:
    named = tmp_path / "named.toml"
    if content is not None:
        named.write_bytes(content)
    with pytest.raises(SettingsError, match=r"named\.toml"):
        load(config=named)
    with pytest.raises(SettingsError, match="cannot be read"):
        load(config=tmp_path)


def test_a_url_may_not_carry_a_password(load: Load) -> None:
    with pytest.raises(SettingsError, match="may not carry a name or password") as raised:
        load(toml="server_url = 'https://ada:hunter22@host/mcp'")
    assert "hunter22" not in str(raised.value)


def test_tables_of_plugins_are_not_in_the_repr(load: Load) -> None:
    assert "hunter22" not in repr(load(pairs=["sinks.splunk.token=hunter22"]))


def test_yes_and_no_are_read_wherever_they_stand(load: Load) -> None:
    def insecure(**given: Any) -> object:
        return load(**given).sources.get("auditlogs", {}).get("insecure_http")

    assert insecure() is None
    assert insecure(flags={"insecure_http": True}) is True
    assert insecure(flags={"insecure_http": False}, environ={"CFAUDIT_INSECURE_HTTP": "on"}) is True
    assert insecure(pairs=["insecure_http=false"], environ={"CFAUDIT_INSECURE_HTTP": "1"}) is False
    assert insecure(toml="insecure_http = true") is True
    with pytest.raises(SettingsError, match="'insecure_http' in '.*': expected true or false, not '3'"):
        insecure(toml="insecure_http = 3")


def test_a_secret_in_the_place_of_its_variable_is_not_shown(load: Load) -> None:
    with pytest.raises(UsageError, match="expected the name of the variable that holds it") as caught:
        load({"client_secret_variable": "s3cr3t-itself"})
    assert "s3cr3t" not in str(caught.value)


def test_a_port_is_one(load: Load) -> None:
    assert load({"redirect_port": "33418"}).redirect_port == 33418
    with pytest.raises(UsageError, match="--redirect-port: expected a port up to 65535, not '70000'"):
        load({"redirect_port": "70000"})


@pytest.mark.parametrize(
    ("given", "source"),
    [
        ({}, "auto"),
        ({"flags": {"server_url": "http://127.0.0.1:1/mcp"}}, "auditlogs"),
        ({"flags": {"fill_gaps_from": "codemode"}}, "auditlogs"),
        ({"pairs": ["sources.auditlogs.server_url=http://127.0.0.1:1/mcp"]}, "auto"),
        ({"flags": {"source": "codemode", "server_url": "http://127.0.0.1:1/mcp"}}, "codemode"),
        ({"flags": {"concurrency": "2"}}, "auto"),
    ],
)
def test_the_source_is_left_to_the_program_unless_another_setting_is_about_one(
    load: Load, given: dict[str, Any], source: str
) -> None:
    assert load(**given).source == source


def test_what_is_short_for_a_setting_of_the_source_is_for_each_that_may_read(load: Load) -> None:
    sources = load(flags={"concurrency": "2"}).sources
    assert {name: one["concurrency"] for name, one in sources.items()} == {"auditlogs": 2, "codemode": 2}


@pytest.mark.parametrize(("name", "value"), [("server_url", "http://127.0.0.1:1/mcp"), ("fill_gaps_from", "codemode")])
def test_what_needs_one_source_is_refused_where_the_choice_is_left_open(load: Load, name: str, value: str) -> None:
    with pytest.raises(SettingsError, match=name):
        load(flags={"source": "auto", name: value})
