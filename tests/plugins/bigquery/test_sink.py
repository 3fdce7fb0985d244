"""What a load does when BigQuery, or the way to it, does not: once, or a clear word."""

from __future__ import annotations

import logging
import os
import random
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest

import cfaudit_bigquery.service
from cfaudit_bigquery.attempts import last_attempt
from cfaudit_bigquery.sink import BigQuerySink
from cfaudit_export import Batch, LoadUnknownError, SinkError, SinkRefusedError, Window, read_batch
from cfaudit_export.errors import ExitCode
from cfaudit_export.testing.batches import make_batch

QUOTA = {"status": 403, "reason": "quotaExceeded", "message": "Quota exceeded: too many table update operations"}
RATE = {"status": 403, "reason": "rateLimitExceeded", "message": "Exceeded rate limits"}
BUSY = {"status": 503, "reason": "backendError"}
ROLES = "grant the role BigQuery Data Editor on the dataset 'proj.audit' and BigQuery Job User on the project 'proj'"


@pytest.fixture
def batch(tmp_path: Path) -> Batch:
    return make_batch(tmp_path, rows=20, days=2)


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let nothing but the settings say where jobs run."""
    for name in ("GOOGLE_CLOUD_PROJECT", "GOOGLE_APPLICATION_CREDENTIALS", "BIGQUERY_EMULATOR_HOST"):
        monkeypatch.delenv(name, raising=False)


def ids_of(*batches: Batch) -> list[str]:
    return sorted(event_id for batch in batches for event_id in read_batch(batch)["event_id"].to_pylist())


# -- answers that do not come -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tables/"),
        ("POST", r"/tables\b"),
        ("GET", "/jobs/"),
        ("POST", "/upload/"),
        ("PUT", "/upload/"),
    ],
)
@pytest.mark.parametrize(
    "fault",
    [{"action": "lose"}, {"action": "drop"}, {"action": "garble"}, {"action": "empty"}, {"action": "lie", **BUSY}],
    ids=lambda fault: fault["action"],
)
def test_a_load_without_an_answer_is_done_once(
    standin: Any, batch: Batch, method: str, path: str, fault: dict[str, Any]
) -> None:
    standin.fault(method, path, **fault)
    receipt = standin.sink().load(batch)
    assert (receipt.rows, receipt.already, receipt.locations) == (20, False, ("proj.audit.events",))
    assert standin.ids() == ids_of(batch)
    assert len(standin.jobs()) == 1


def test_a_merge_without_an_answer_is_done_once(standin: Any, batch: Batch) -> None:
    standin.fault("POST", "^/bigquery/v2/projects/proj/jobs", "lose")
    assert standin.sink(merge=True).load(batch).rows == 20
    assert standin.ids() == ids_of(batch)


def test_an_answer_that_never_comes_is_unknown_and_the_next_load_finds_out(standin: Any, batch: Batch) -> None:
    standin.fault("PUT", "/upload/", "lose")
    with pytest.raises(LoadUnknownError, match="no answer"):
        standin.sink(retry_seconds=0).load(batch)
    assert standin.ids() == ids_of(batch)
    assert standin.sink().load(batch).already
    assert standin.ids() == ids_of(batch)


def test_trying_again_ends_with_the_time_for_it(standin: Any, batch: Batch) -> None:
    standin.fault("GET", "/jobs/", "refuse", times=1000, **BUSY)
    begun_at = time.monotonic()
    with pytest.raises(SinkError, match="cannot take it now: asked for by a test") as caught:
        standin.sink(retry_seconds=1).load(batch)
    assert time.monotonic() - begun_at < 5
    assert caught.value.exit_code == ExitCode.SINK_DOWN


def test_a_server_that_is_not_there_is_named_as_down(tmp_path: Path, standin: Any) -> None:
    sink = standin.sink(endpoint_url="http://127.0.0.1:9", retry_seconds=0)
    with pytest.raises(SinkError, match="no answer"):
        sink.check()


# -- uploads in several chunks ------------------------------------------------------------------------


@pytest.fixture
def large_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Batch:
    """Return a batch that is sent in at least three chunks."""
    monkeypatch.setattr(cfaudit_bigquery.service, "_CHUNK_BYTES", 256 << 10)
    chance = random.Random(1)
    noise = [chance.randbytes(10_000).hex() for _ in range(100)]
    return make_batch(tmp_path, rows=100, changes={"action_description": noise})


def test_a_body_is_sent_in_chunks(standin: Any, large_batch: Batch) -> None:
    standin.sink().load(large_batch)
    *chunks, last = [status for _, _, status in standin.requests("PUT")]
    assert set(chunks) == {308}
    assert len(chunks) > 2
    assert last == 200
    assert standin.ids() == ids_of(large_batch)


@pytest.mark.parametrize(
    "fault", [{"action": "half"}, {"action": "lose"}, {"action": "drop"}, {"action": "lie", **BUSY}]
)
def test_an_upload_that_breaks_in_the_middle_is_begun_again(
    standin: Any, large_batch: Batch, fault: dict[str, Any]
) -> None:
    standin.fault("PUT", "/upload/", skip=1, **fault)
    standin.sink().load(large_batch)
    assert standin.ids() == ids_of(large_batch)
    assert len([path for _, path, _ in standin.requests("POST") if "/upload/" in path]) == 2


# -- jobs that fail -----------------------------------------------------------------------------------


def test_a_job_that_fails_for_the_moment_is_followed_by_another_attempt(standin: Any, batch: Batch) -> None:
    standin.job_fault("_0$", error={"reason": "backendError", "message": "Error encountered during execution"})
    assert standin.sink().load(batch).rows == 20
    assert standin.ids() == ids_of(batch)
    assert sorted(name[-2:] for name in standin.jobs()) == ["_0", "_1"]


@pytest.mark.parametrize("reason", ["invalid", "accessDenied", "notFound", "policyViolation"])
def test_a_job_that_fails_for_good_is_refused_and_tried_anew_by_the_next_run(
    standin: Any, batch: Batch, reason: str
) -> None:
    standin.job_fault("_0$", error={"reason": reason, "message": "so it is"})
    with pytest.raises(SinkRefusedError, match="so it is") as caught:
        standin.sink().load(batch)
    assert caught.value.exit_code == ExitCode.SETTINGS
    assert len(standin.jobs()) == 1
    receipt = standin.sink().load(batch)
    assert not receipt.already
    assert standin.ids() == ids_of(batch)


def test_a_batch_that_failed_often_is_loaded_under_the_next_number(standin: Any, batch: Batch) -> None:
    for _ in range(11):
        standin.job_fault(".", error={"reason": "quotaExceeded", "message": "Quota exceeded"})
        with pytest.raises(SinkError, match="a quota of BigQuery is used up"):
            standin.sink().load(batch)
    standin.sink().load(batch)
    assert standin.ids() == ids_of(batch)
    assert sorted(int(name.rpartition("_")[2]) for name in standin.jobs()) == list(range(12))


class Numbers:
    """Knows the jobs 0 to `count - 1`, and how often it was asked."""

    def __init__(self, count: int) -> None:
        self.count, self.asked = count, 0

    def get_job(self, name: str, _location: str | None) -> str | None:
        self.asked += 1
        return name if int(name.rpartition("_")[2]) < self.count else None

    def wait(self, _job: str) -> None:
        """Every job is done."""


@pytest.mark.parametrize("count", [*range(20), 1000, 4095, 4096])
def test_the_last_attempt_is_found_by_few_questions(count: int) -> None:
    numbers = Numbers(count)
    last, job = last_attempt(numbers, "job", "EU")  # type: ignore[arg-type]  # knows what is asked of it
    assert last == count - 1
    assert job == (f"job_{last}" if count else None)
    assert numbers.asked <= 2 * count.bit_length() + 2


def test_a_job_that_takes_long_is_waited_for(standin: Any, batch: Batch) -> None:
    standin.job_fault(".", polls=2)
    assert not standin.sink().load(batch).already
    assert standin.ids() == ids_of(batch)


def test_a_job_of_an_earlier_run_that_still_runs_is_waited_for(standin: Any, batch: Batch) -> None:
    standin.fault("PUT", "/upload/", "lose")
    standin.job_fault(".", polls=3)
    with pytest.raises(LoadUnknownError):
        standin.sink(retry_seconds=0).load(batch)
    assert standin.sink().load(batch).already
    assert len(standin.jobs()) == 1


def test_a_job_that_does_not_end_is_unknown(standin: Any, batch: Batch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cfaudit_bigquery.service, "_GRACE_SECONDS", 0)
    standin.job_fault(".", polls=1_000_000)
    with pytest.raises(LoadUnknownError, match=r"still runs after 0\.5 s; the next run waits for it again"):
        standin.sink(job_timeout_seconds=0.5).load(batch)


def test_a_job_that_stored_less_than_it_was_given_is_no_success(standin: Any, batch: Batch) -> None:
    standin.job_fault(".", output_rows=19)
    for ask in (lambda sink: sink.load(batch), lambda sink: sink.find(batch.batch_id, batch.window)):
        with pytest.raises(SinkError, match="stored 19 of 20 events; look at it in the console"):
            ask(standin.sink())


def test_a_table_that_drops_days_may_count_less(standin: Any, batch: Batch) -> None:
    standin.job_fault(".", output_rows=19)
    assert standin.sink(partition_expiry_days=1).load(batch).rows == 20


def test_a_job_that_does_not_say_what_it_stored_is_no_success(standin: Any, batch: Batch) -> None:
    standin.job_fault(".", output_rows=None)
    with pytest.raises(LoadUnknownError, match="does not say how many of 20 events it stored"):
        standin.sink(retry_seconds=0).load(batch)


def test_an_answer_that_drips_does_not_hold_a_load(
    dripping: str, standin: Any, batch: Batch, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A byte now and then is no silence, and no answer either."""
    monkeypatch.setattr(cfaudit_bigquery.service, "_EXCHANGE_SECONDS", 0.3)
    with pytest.raises(SinkError, match=r"no answer \(ReadTimeout\)"):
        BigQuerySink(standin.config(endpoint_url=dripping, retry_seconds=0)).load(batch)


# -- tables that forget -------------------------------------------------------------------------------


def test_a_dataset_that_drops_days_on_its_own_is_named_and_swallows_nothing(
    standin: Any, batch: Batch, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A sandbox keeps 60 days; BigQuery drops an older event when it is loaded, and counts it as stored."""
    standin.say("dataset", name="proj.audit", location="EU", partition_expiry_days=60)
    loaded_on = datetime(2026, 11, 2, tzinfo=UTC)
    recent = BigQuerySink(standin.config(), clock=lambda: loaded_on)
    with caplog.at_level(logging.WARNING):
        assert recent.load(batch).rows == 20
    assert "the table does not keep events" in caplog.messages
    assert "drops the events of a day after 60 days, which is not in the settings" in recent.check()
    late = BigQuerySink(standin.config(), clock=lambda: loaded_on + timedelta(days=59))
    other = make_batch(tmp_path, rows=20, days=2, seed=2)
    with pytest.raises(SinkRefusedError, match=r"after 60 days, and 10 of 20 events are older"):
        late.load(other)
    assert len(standin.jobs()) == 1
    accepted = BigQuerySink(standin.config(partition_expiry_days=60), clock=lambda: loaded_on + timedelta(days=59))
    assert accepted.load(other).rows == 20


# -- two at once --------------------------------------------------------------------------------------


def test_of_many_who_load_a_batch_at_once_one_stores_it(standin: Any, batch: Batch) -> None:
    start = Barrier(6)

    def load() -> int:
        sink = standin.sink()
        start.wait(timeout=30)
        rows = sink.load(batch).rows
        sink.close()
        return int(rows)

    with ThreadPoolExecutor(6) as pool:
        futures = [pool.submit(load) for _ in range(6)]
    assert [future.result() for future in futures] == [20] * 6
    assert standin.ids() == ids_of(batch)


# -- jobs of other accounts ---------------------------------------------------------------------------


def test_that_bigquery_may_hide_what_does_not_exist_keeps_nothing_from_being_stored(standin: Any, batch: Batch) -> None:
    standin.say("settings", hides_absence=True)
    standin.make_table_as_the_sink_does()
    assert standin.sink().find(batch.batch_id, batch.window) is None
    assert not standin.sink().load(batch).already
    assert standin.sink().load(batch).already
    assert standin.ids() == ids_of(batch)


def test_a_batch_that_another_account_has_stored_is_not_stored_again(standin: Any, batch: Batch) -> None:
    standin.sink().load(batch)
    standin.say("settings", account="somebody.else@example.com")
    sink = standin.sink(retry_seconds=0.2)
    with pytest.raises(
        LoadUnknownError, match="exists, but these credentials cannot see it; use those that started it"
    ):
        sink.load(batch)
    with pytest.raises(LoadUnknownError):
        sink.find(batch.batch_id, batch.window)
    assert standin.ids() == ids_of(batch)


# -- faults by their names ----------------------------------------------------------------------------


def test_a_used_up_quota_is_not_asked_again(standin: Any, batch: Batch) -> None:
    standin.fault("POST", "/upload/", "refuse", **QUOTA)
    with pytest.raises(SinkError, match="a quota of BigQuery is used up: Quota exceeded: too many") as caught:
        standin.sink().load(batch)
    assert caught.value.exit_code == ExitCode.SINK_DOWN
    assert len([path for _, path, _ in standin.requests("POST") if "/upload/" in path]) == 1


@pytest.mark.parametrize(
    ("reason", "words", "kind"),
    [
        (
            "invalid",
            "Too many partitions produced by query, allowed 4000, query produces at least 4001",
            SinkRefusedError,
        ),
        ("quotaExceeded", "Your table exceeded quota for Number of partition modifications", SinkError),
        ("resourcesExceeded", "Resources exceeded during query execution: too large", SinkError),
    ],
)
def test_a_limit_on_what_a_job_may_do_is_an_error_in_bigquery_s_words_and_nothing_is_quarantined(
    standin: Any, batch: Batch, reason: str, words: str, kind: type[SinkError]
) -> None:
    standin.job_fault("", error={"reason": reason, "message": words})
    with pytest.raises(SinkError, match=words) as caught:
        standin.sink().load(batch)
    assert type(caught.value) is kind
    assert standin.ids() == []
    assert standin.sink().load(batch).rejected == ()
    assert standin.ids() == ids_of(batch)


def test_too_many_requests_a_second_are_asked_again(
    standin: Any, batch: Batch, caplog: pytest.LogCaptureFixture
) -> None:
    standin.fault("POST", "/upload/", "refuse", **RATE)
    with caplog.at_level(logging.WARNING):
        standin.sink().load(batch)
    assert standin.ids() == ids_of(batch)
    assert [record.message for record in caplog.records] == ["bigquery is asked again"]


@pytest.mark.parametrize("mode", [{}, {"merge": True}], ids=["append", "merge"])
@pytest.mark.parametrize("made", ["", "table"], ids=["no table", "table"])
@pytest.mark.parametrize("right", ["tables.get", "tables.create", "tables.updateData", "tables.getData", "jobs.create"])
def test_check_passes_exactly_where_load_does(
    standin: Any, tmp_path: Path, right: str, made: str, mode: dict[str, bool]
) -> None:
    first, second = (make_batch(tmp_path, rows=20, seed=seed) for seed in (1, 2))
    if made:
        standin.sink().load(first)
    standin.say("settings", denied=[f"bigquery.{right}"])
    outcomes = []
    for ask in (lambda: standin.sink(**mode).check(), lambda: standin.sink(**mode).load(second)):
        try:
            ask()
            outcomes.append("")
        except SinkRefusedError as error:
            outcomes.append(str(error))
    if not made and right in ("tables.updateData", "tables.getData"):
        assert not outcomes[0], "a right on a table cannot be asked for before there is one"
    else:
        assert bool(outcomes[0]) == bool(outcomes[1])
    assert not outcomes[1] or ROLES in outcomes[1]
    assert not outcomes[0] or f"bigquery.{right}" in outcomes[0]


def test_a_missing_dataset_is_named(standin: Any, batch: Batch) -> None:
    for ask in (lambda sink: sink.load(batch), lambda sink: sink.check()):
        with pytest.raises(SinkRefusedError, match=r"not found: .*; create the dataset 'proj.elsewhere'"):
            ask(standin.sink(table="proj.elsewhere.events"))


def test_an_error_during_an_upload_does_not_show_its_address(standin: Any, batch: Batch) -> None:
    """Who knows it could send the rest."""
    standin.fault("PUT", "/upload/", "refuse", status=400, reason="", message="no")
    with pytest.raises(SinkRefusedError) as caught:
        standin.sink().load(batch)
    assert "upload_id" not in str(caught.value)


def test_an_event_does_not_get_into_an_error(standin: Any, batch: Batch) -> None:
    words = "Could not parse 'hunter2' as TIMESTAMP. Field: event_time; Value: hunter2"
    standin.job_fault(".", error={"reason": "invalid", "message": words})
    with pytest.raises(SinkRefusedError, match="Field: event_time") as caught:
        standin.sink().load(batch)
    assert "hunter2" not in str(caught.value)


# -- find ---------------------------------------------------------------------------------------------


def test_find_gives_the_receipt_that_load_gave(standin: Any, batch: Batch) -> None:
    receipt = standin.sink().load(batch)
    found = standin.sink().find(batch.batch_id, batch.window)
    assert (found.batch_id, found.rows, found.locations) == (receipt.batch_id, 20, receipt.locations)
    assert found.already


def test_find_knows_that_nothing_is_in_a_table_that_is_not_there(standin: Any, batch: Batch) -> None:
    assert standin.sink().find(batch.batch_id, batch.window) is None
    assert standin.jobs() == {}


def test_find_is_not_misled_by_a_failed_attempt(standin: Any, batch: Batch) -> None:
    standin.job_fault(".", error={"reason": "invalid", "message": "no"})
    with pytest.raises(SinkRefusedError):
        standin.sink().load(batch)
    assert standin.sink().find(batch.batch_id, batch.window) is None


def test_a_batch_may_be_asked_for_and_loaded_over_and_over(standin: Any, batch: Batch) -> None:
    standin.make_table_as_the_sink_does()
    for _ in range(3):
        assert standin.sink().find(batch.batch_id, batch.window) is None
    assert not standin.sink().load(batch).already
    assert standin.sink().find(batch.batch_id, batch.window).already
    assert standin.ids() == ids_of(batch)


def test_find_cannot_tell_of_what_bigquery_has_forgotten(standin: Any, batch: Batch) -> None:
    standin.sink().load(batch)
    standin.say("forget-jobs")
    later = standin.sink_in(days=200)
    with pytest.raises(LoadUnknownError, match="forgets jobs after half a year.*set merge = true"):
        later.find(batch.batch_id, batch.window)
    assert standin.sink_in(days=200, merge=True).find(batch.batch_id, batch.window) is None
    standin.sink(merge=True).load(batch)
    assert standin.ids() == ids_of(batch)


def test_a_staged_file_that_bigquery_may_have_forgotten_is_not_loaded_blindly(standin: Any, batch: Batch) -> None:
    year_ago = time.time() - 365 * 86_400
    os.utime(batch.path, (year_ago, year_ago))
    with pytest.raises(LoadUnknownError, match="forgets jobs after half a year"):
        standin.sink().load(batch)
    assert standin.sink(merge=True).load(batch).rows == 20


def test_an_old_time_that_is_exported_today_is_known_by_the_age_of_the_table(standin: Any, batch: Batch) -> None:
    """A backfill: the window ended years ago, but nothing can be older than the table."""
    standin.make_table_as_the_sink_does()
    old = Window(datetime(2020, 1, 1, tzinfo=UTC), datetime(2020, 1, 2, tzinfo=UTC))
    assert standin.sink_in(days=100).find(batch.batch_id, old) is None
    with pytest.raises(LoadUnknownError):
        standin.sink_in(days=200).find(batch.batch_id, old)


def test_a_load_that_was_given_up_by_another_run_stops(standin: Any, batch: Batch) -> None:
    """Both live: one hangs in its upload, the other has asked, heard no, and reads the window again."""
    standin.fault("PUT", "/upload/", "hold")
    with ThreadPoolExecutor(1) as pool:
        hanging = pool.submit(standin.sink().load, batch)
        assert standin.say("held")
        assert standin.sink().find(batch.batch_id, batch.window) is None
        standin.release()
        with pytest.raises(SinkError, match="another run has abandoned batch"):
            hanging.result(timeout=30)
    assert standin.ids() == []


def test_a_table_that_was_made_anew_is_filled_anew(standin: Any, batch: Batch) -> None:
    standin.sink().load(batch)
    standin.say("drop", name="proj.audit.events")
    assert standin.sink().find(batch.batch_id, batch.window) is None
    assert not standin.sink().load(batch).already
    assert standin.ids() == ids_of(batch)


# -- settings that jobs carry -------------------------------------------------------------------------


def test_jobs_carry_the_labels_the_location_and_the_time_limit(standin: Any, batch: Batch) -> None:
    standin.sink(labels={"team": "security"}, job_timeout_seconds=90, location="eu").load(batch)
    (job,) = standin.jobs().values()
    assert job["configuration"]["labels"] == {
        "team": "security",
        "cfaudit-batch": batch.batch_id,
        "cfaudit-rows": "20",
    }
    assert job["jobReference"]["location"] == "EU"
    assert job["configuration"]["jobTimeoutMs"] == "90000"


def test_jobs_run_in_the_project_that_is_set(standin: Any, batch: Batch) -> None:
    standin.sink(project="payer").load(batch)
    (name,) = standin.jobs()
    assert name.startswith("payer.cfaudit_")
    assert standin.ids() == ids_of(batch)
