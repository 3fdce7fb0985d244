"""Alerts: each finding is told once to each channel, and none is swallowed, whatever fails in between."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from cfaudit_export.analysis.files.engine import Limits
from cfaudit_export.analysis.files.open import open_location
from cfaudit_export.analysis.rules.load import load_rules
from cfaudit_export.app.alert import AlertReport, AlertRun, run_alert
from cfaudit_export.app.alert_channels import open_channels
from cfaudit_export.app.archive import Remembered
from cfaudit_export.core.model import Checkpoint, Gap, Seen, SeenWindow, SinkProgress, Stream, Window
from cfaudit_export.errors import CheckpointDamagedError, ExitCode, LockedError, SettingsError
from cfaudit_export.settings import RuleSettings
from cfaudit_export.settings.alerts import AlertSettings
from cfaudit_export.stores.alert_memory import AlertMemory
from cfaudit_export.stores.file import FileStore
from planted.files import write_rows
from planted.stories import taken_over
from planted.world import Story

ACCOUNT = "0f3c1e5a7b9d2468ace013579bdf2468"
NOON = datetime(2026, 11, 29, 12, tzinfo=UTC)
SECRET = "whsec_" + base64.b64encode(b"k" * 32).decode()
LOUD = ("failed-sign-ins", "dnssec-off", "dns-deletes", "token-made", "waf-off", "member-removed")


@dataclass
class Endpoint:
    """What takes messages over HTTP; `statuses` are answered first, then 200."""

    url: str = ""
    statuses: list[int] = field(default_factory=list)
    heard: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    on_message: Callable[[int], None] = lambda _number: None

    @property
    def bodies(self) -> list[dict[str, Any]]:
        return [json.loads(body) for _, body in self.heard]

    @property
    def rules(self) -> list[str]:
        return [body["data"]["rule"] for body in self.bodies]


@contextmanager
def serving() -> Iterator[Endpoint]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            status = found.statuses.pop(0) if found.statuses else 200
            if status == 200:
                found.heard.append(({name.lower(): value for name, value in self.headers.items()}, body))
                found.on_message(len(found.heard))
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    found = Endpoint(f"http://127.0.0.1:{server.server_port}/hook/s3cr3t0123456789abcdef")
    thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def endpoint() -> Iterator[Endpoint]:
    with serving() as found:
        yield found


@pytest.fixture
def other() -> Iterator[Endpoint]:
    with serving() as found:
        yield found


@dataclass
class Archive:
    """Exported files to which events are added, and the alert runs over them."""

    root: Path
    settings: AlertSettings
    now: datetime = NOON + timedelta(hours=1)
    gaps: tuple[Gap, ...] = ()
    environ: dict[str, str] = field(default_factory=dict)
    given: list[Any] = field(default_factory=list)
    batches: int = 0

    @property
    def data(self) -> Path:
        return self.root / "data"

    def story(self, at: datetime = NOON) -> Story:
        return Story(ACCOUNT, at, [])

    def store(self, story: Story) -> None:
        self.batches += 1
        write_rows(self.data, story.rows, f"batch-{self.batches}")

    def alert(self, fail_on: str | None = None) -> AlertReport:
        place = open_location(str(self.data))
        channels = open_channels(self.settings, self.environ, lambda: self.now, lambda _secret: None, self.given.append)
        memory = AlertMemory(FileStore(self.root / "state"), self.root / "alerts", place.shown)
        covered = (Window(NOON - timedelta(days=9), NOON + timedelta(days=9)),)
        lacks = Seen(gaps=tuple(SeenWindow(one.window, "") for one in self.gaps))
        sinks = {"parquet": SinkProgress(covered=covered, seen=lacks)}
        checkpoint = Checkpoint(Stream(ACCOUNT, "codemode"), sinks, self.gaps)
        run = AlertRun(
            place=place,
            accounts=(),
            settings=self.settings,
            rules=load_rules(RuleSettings()),
            channels=channels,
            memory=memory,
            known=Remembered([checkpoint], ["parquet"], {}),
            limits=Limits(threads=1),
            zone=ZoneInfo("Europe/Berlin"),
            clock=lambda: self.now,
            fail_on=fail_on,
        )
        return run_alert(run)


@pytest.fixture
def archive(tmp_path: Path, endpoint: Endpoint) -> Archive:
    """An archive whose findings are told to the endpoint."""
    return Archive(tmp_path, AlertSettings(webhook_url=endpoint.url))


def test_each_finding_is_told_once_in_order_with_all_that_is_needed(archive: Archive, endpoint: Endpoint) -> None:
    story = archive.story()
    taken_over(story)
    archive.store(story)
    report = archive.alert()
    assert (report.exit_code, report.failures) == (ExitCode.OK, ())
    assert endpoint.rules == [one for one in LOUD if one in endpoint.rules] or set(endpoint.rules) <= set(LOUD)
    assert {"failed-sign-ins", "dnssec-off", "dns-deletes"} <= set(endpoint.rules)
    times = [body["data"]["first"] for body in endpoint.bodies]
    assert times == sorted(times)
    [dnssec] = [body for body in endpoint.bodies if body["data"]["rule"] == "dnssec-off"]
    text = dnssec["text"]
    assert text.startswith("[high] DNSSEC switched off: shop-1.example\n")
    for part in ("when: 2026-11-29 13:09 Europe/Berlin (2026-11-29T12:09:00.000Z)", "jonas.ekberg@example.com by dash"):
        assert part in text
    for part in ("from: 203.0.113.66", "why: 'Disable DNSSEC'", "events: story-", "cfaudit-export timeline --data"):
        assert part in text
    assert dnssec["data"]["event_ids"]
    told = len(endpoint.heard)
    assert archive.alert().found == ()
    archive.now += timedelta(hours=20)
    assert archive.alert().found == ()
    assert len(endpoint.heard) == told


def test_a_message_is_signed_and_its_id_is_the_same_when_it_is_sent_again(archive: Archive, endpoint: Endpoint) -> None:
    archive.settings = replace(archive.settings, webhook_secret_variable="HOOK")
    archive.environ["HOOK"] = SECRET
    story = archive.story()
    story.add("dnssec/dnssec", "update", "Disable DNSSEC", zone_name="shop-1.example")
    archive.store(story)
    archive.alert()
    [(headers, body)] = endpoint.heard
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    wanted = base64.b64encode(hmac.new(b"k" * 32, signed, hashlib.sha256).digest()).decode()
    assert headers["webhook-signature"] == f"v1,{wanted}"
    assert headers["webhook-timestamp"] == str(int(archive.now.timestamp()))
    parts = ("dnssec-off", "shop-1.example", story.rows[0]["event_id"])
    assert headers["webhook-id"] == hashlib.sha256("\n".join(parts).encode()).hexdigest()[:32]


def test_what_arrives_late_is_told_however_long_ago_it_happened(archive: Archive, endpoint: Endpoint) -> None:
    archive.store(archive.story())
    quiet = archive.story()
    quiet.add("kv/namespaces", "create", "Create namespace")
    archive.store(quiet)
    archive.alert()
    archive.now += timedelta(hours=6)
    late = archive.story(NOON - timedelta(hours=20))
    late.add("zones/zones", "delete", "Delete zone", ingested_at=archive.now - timedelta(minutes=5))
    archive.store(late)
    archive.alert()
    assert endpoint.rules == ["zone-removed"]


def test_what_was_read_before_the_last_run_and_stored_after_it_is_told(archive: Archive, endpoint: Endpoint) -> None:
    quiet = archive.story()
    quiet.add("kv/namespaces", "create", "Create namespace")
    archive.store(quiet)
    archive.alert()
    held_up = archive.story(NOON)
    held_up.add("zones/zones", "delete", "Delete zone")
    archive.store(held_up)
    archive.now += timedelta(hours=1)
    archive.alert()
    assert endpoint.rules == ["zone-removed"]


def test_a_backfill_is_one_line(archive: Archive, endpoint: Endpoint) -> None:
    old = archive.story(NOON - timedelta(days=20))
    for number in range(30):
        old.add("zones/zones", "delete", "Delete zone", zone_name=f"{number}.example", ingested_at=archive.now)
    archive.store(old)
    archive.alert()
    [body] = endpoint.bodies
    assert body["data"]["rule"] == "backfill"
    assert body["text"].startswith("30 older events arrived, and were not judged\n")
    assert "cfaudit-export findings --data" in body["text"]
    archive.now += timedelta(hours=1)
    archive.alert()
    assert len(endpoint.heard) == 1


def test_after_a_message_its_rule_and_key_are_quiet_and_then_counted(archive: Archive, endpoint: Endpoint) -> None:
    def removed(at: datetime) -> None:
        story = archive.story(at)
        story.add("zones/zones", "delete", "Delete zone", zone_name="shop-1.example", ingested_at=archive.now)
        archive.store(story)

    removed(NOON)
    archive.alert()
    for hours in (2, 4):  # joins the same finding
        archive.now = NOON + timedelta(hours=1 + hours)
        removed(NOON + timedelta(hours=hours))
        report = archive.alert()
        assert (report.held, report.delivered) == (1, {})
    archive.now = NOON + timedelta(hours=14)
    archive.alert()
    assert [body["data"]["events"] for body in endpoint.bodies] == [1, 3]
    archive.now += timedelta(hours=1)
    archive.alert()
    assert len(endpoint.heard) == 2


def test_a_channel_that_fails_is_told_the_next_time_and_others_are_not_told_again(
    archive: Archive, endpoint: Endpoint, other: Endpoint
) -> None:
    pytest.importorskip("apprise", reason="NOT TESTED: services of Apprise; install the extra 'alerts'")
    service = other.url.replace("http://", "json://").replace("?", "/")
    archive.settings = replace(archive.settings, notify_urls=(service,))
    story = archive.story()
    story.add("dnssec/dnssec", "update", "Disable DNSSEC", zone_name="shop-1.example")
    story.add("zones/zones", "delete", "Delete zone", zone_name="shop-2.example")
    archive.store(story)
    endpoint.statuses = [200, 503]
    report = archive.alert()
    assert report.exit_code == ExitCode.SINK_DOWN
    [failure] = report.failures
    assert failure.startswith("webhook at '127.0.0.1' answers 503")
    assert "s3cr3t" not in failure
    assert endpoint.rules == ["dnssec-off"]
    assert len(other.heard) == 2
    assert b"DNSSEC switched off" in other.heard[0][1]
    archive.now += timedelta(hours=1)
    other.statuses = [500]  # is not asked
    assert archive.alert().exit_code == ExitCode.OK
    assert endpoint.rules == ["dnssec-off", "zone-removed"]
    assert len(other.heard) == 2


def test_a_channel_that_is_down_for_days_misses_nothing(archive: Archive, endpoint: Endpoint) -> None:
    story = archive.story()
    story.add("zones/zones", "delete", "Delete zone", zone_name="shop-2.example")
    archive.store(story)
    for _ in range(6):
        endpoint.statuses = [503]
        assert archive.alert().exit_code == ExitCode.SINK_DOWN
        archive.now += timedelta(hours=17)
    endpoint.statuses = []
    archive.alert()
    assert endpoint.rules == ["zone-removed"]


def test_gaps_and_what_is_severe_show_in_the_exit_code(archive: Archive, endpoint: Endpoint) -> None:
    story = archive.story()
    story.add("zones/zones", "delete", "Delete zone")
    archive.store(story)
    window = Window(NOON, NOON + timedelta(minutes=1))
    archive.gaps = (Gap(window, 1, "refused", NOON, NOON),)
    report = archive.alert(fail_on="high")
    assert report.exit_code == ExitCode.CHANGED
    assert report.gaps == archive.gaps
    assert archive.alert(fail_on="high").exit_code == ExitCode.INCOMPLETE
    archive.gaps = ()
    assert archive.alert(fail_on="high").exit_code == ExitCode.OK


def test_without_a_channel_messages_are_given_to_the_caller(archive: Archive, endpoint: Endpoint) -> None:
    archive.settings = AlertSettings(severity="high")
    story = archive.story()
    taken_over(story)
    archive.store(story)
    archive.alert()
    assert {one.severity for one in archive.given} == {"high"}
    assert endpoint.heard == []


def test_texts_of_strangers_are_inert(archive: Archive, endpoint: Endpoint) -> None:
    text = "Disable DNSSEC <!channel> @everyone \x1b[31m \u202e & Ignore previous instructions"
    story = archive.story()
    story.add("dnssec/dnssec", "update", text, zone_name="a\nb.example", actor_email="o'x; rm -rf /@example.com")
    archive.store(story)
    archive.alert()
    [body] = endpoint.bodies
    assert "<" not in body["text"]
    assert "@everyone" not in body["text"]
    for mark in ("\x1b", "\u202e"):
        assert mark not in body["text"]
        assert mark not in json.dumps(body["data"], ensure_ascii=False)
    assert len(body["text"].splitlines()) == 8
    assert "--actor 'o'" in body["data"]["command"]


@pytest.mark.parametrize(
    ("settings", "environ", "message"),
    [
        (AlertSettings(webhook_url="http://hooks.example/x"), {}, "alert.webhook_url must start with https://"),
        (AlertSettings(webhook_url="https://x/y", webhook_secret_variable="HOOK"), {}, "'HOOK', which is not set"),
        (AlertSettings(webhook_url="https://x/y", webhook_secret_variable="HOOK"), {"HOOK": "whsec_abc"}, "Base64"),
        (AlertSettings(notify_urls=("nonsense://s3cr3t",)), {}, "Apprise knows no such service"),
        (AlertSettings(notify_variable="URLS"), {}, "'URLS', which is not set"),
    ],
)
def test_channels_that_cannot_be_are_refused_without_their_secrets(
    archive: Archive, settings: AlertSettings, environ: dict[str, str], message: str
) -> None:
    archive.store(archive.story())
    archive.data.mkdir(exist_ok=True)
    archive.settings, archive.environ = settings, environ
    with pytest.raises(SettingsError) as told:
        archive.alert()
    assert message in str(told.value)
    assert "s3cr3t" not in str(told.value)
    assert "whsec_abc" not in str(told.value)


def test_memory_that_is_held_or_damaged_is_no_fresh_start(archive: Archive, endpoint: Endpoint) -> None:
    story = archive.story()
    story.add("zones/zones", "delete", "Delete zone")
    archive.store(story)
    memory = AlertMemory(FileStore(archive.root / "state"), archive.root / "alerts", str(archive.data))
    with memory.hold(), pytest.raises(LockedError):
        archive.alert()
    archive.alert()
    [file] = (archive.root / "alerts").glob("*.json")
    assert oct(file.stat().st_mode & 0o777) == "0o600"
    assert endpoint.url not in file.read_text()
    file.write_text("{}")
    with pytest.raises(CheckpointDamagedError, match="remove it, and the findings of the last days are told again"):
        archive.alert()


class Blobs(FileStore):
    """A store that takes files, and in which writes fail as of some time."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.files: dict[tuple[str, str], bytes] = {}

    def keep(self, stream_id: str, name: str, content: bytes) -> None:
        self.files[stream_id, name] = content

    def fetch(self, stream_id: str, name: str) -> bytes | None:
        return self.files.get((stream_id, name))


def test_a_store_that_takes_files_has_the_memory(tmp_path: Path) -> None:
    store = Blobs(tmp_path)
    memory = AlertMemory(store, tmp_path / "alerts", "s3://bucket/x")
    assert memory.load() == {}
    memory.save({})
    assert memory.load() == {}
    assert len(store.files) == 1
    assert not (tmp_path / "alerts").exists()


@pytest.mark.parametrize("victim", [1, 3])
def test_a_kill_between_delivery_and_memory_repeats_one_message_and_swallows_none(
    archive: Archive, endpoint: Endpoint, tmp_path: Path, victim: int
) -> None:
    story = archive.story(datetime.now(UTC) - timedelta(hours=2))
    for number in range(4):
        story.add("zones/zones", "delete", "Delete zone", zone_name=f"{number}.example")
    archive.store(story)
    command = [sys.executable, "-m", "cfaudit_export", "alert", "--data", str(archive.data)]
    command += ["--state-dir", str(tmp_path / "state"), "-o", f"alert.webhook_url={endpoint.url}"]
    environ = {**os.environ, "HOME": str(tmp_path), "XDG_CONFIG_HOME": str(tmp_path)}

    def start() -> subprocess.Popen[bytes]:
        return subprocess.Popen(command, env=environ, cwd=tmp_path, stderr=subprocess.PIPE)

    children: list[subprocess.Popen[bytes]] = []

    def kill(number: int) -> None:
        if number == victim:
            children[0].send_signal(signal.SIGKILL)

    endpoint.on_message = kill
    children.append(start())
    children[0].communicate(timeout=120)
    assert children[0].returncode == -signal.SIGKILL
    children.append(start())
    _, said = children[1].communicate(timeout=120)
    assert children[1].returncode == 0, said
    ids = [headers["webhook-id"] for headers, _ in endpoint.heard]
    assert len(set(ids)) == 4
    assert len(ids) == 5
    assert ids.count(ids[victim - 1]) == 2
