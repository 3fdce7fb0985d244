"""Jobs: a name is taken once and for ever, a load does all or nothing, a query is one of three that are known."""

from __future__ import annotations

import re
import time
from typing import Any

import rows
from faults import Faults
from state import ApiError, State, verify_labels

_LOAD_KEYS = {
    "destinationTable",
    "sourceFormat",
    "writeDisposition",
    "createDisposition",
    "maxBadRecords",
    "ignoreUnknownValues",
}
_QUERY_KEYS = {"query", "useLegacySql", "useQueryCache"}
_CONFIGURATION_KEYS = {"load", "query", "labels", "jobTimeoutMs", "dryRun", "jobType"}
_JOB_ID = re.compile(r"[A-Za-z0-9_-]{1,1024}")
_MERGE = re.compile(r"MERGE INTO `([^`]+)` AS \w+ USING \(SELECT [^`]+ FROM `([^`]+)` ")
_CREATE = re.compile(r"CREATE TABLE `([^`]+)` \(event_id STRING\)")


def get_job(state: State, project: str, job_id: str, location: str | None) -> dict[str, Any]:
    job = state.jobs.get(f"{project}.{job_id}")
    if job and (location or "US").lower() != job["jobReference"]["location"].lower():
        job = None
    if job is None and not state.hides_absence:
        raise ApiError(404, "notFound", f"Not found: Job {project}:{location}.{job_id}")
    if job is None or job["user_email"] != state.account:
        what = f"Job {project}:{location}.{job_id}"
        words = f"Access Denied: {what}: Permission bigquery.jobs.get denied on {what} (or it may not exist)."
        raise ApiError(403, "accessDenied", words)
    return _shown(state, f"{project}.{job_id}")


def insert_load(state: State, faults: Faults, project: str, resource: dict[str, Any], body: bytes) -> dict[str, Any]:
    state.need("bigquery.jobs.create", f"Project {project}")
    configuration = _verified(resource["configuration"])
    load = configuration["load"]
    if unknown := set(load) - _LOAD_KEYS:
        raise ApiError(400, "invalid", f"Unknown fields {sorted(unknown)}")
    if load.get("sourceFormat") != "NEWLINE_DELIMITED_JSON" or load.get("writeDisposition") != "WRITE_APPEND":
        raise ApiError(400, "invalid", "the stand-in only appends newline-delimited JSON")
    name = "{projectId}.{datasetId}.{tableId}".format_map(load["destinationTable"])
    job = _new_job(state, project, resource, state.location_of(name))
    state.need("bigquery.tables.updateData", f"Table {name}")

    def run() -> dict[str, Any]:
        fields = state.table(name)["schema"]["fields"]
        if state.count_only:
            return {"load": {"outputRows": str(rows.count_lines(body))}}
        if not rows.count_lines(body):
            raise _JobError([{"reason": "invalid", "message": "the stand-in takes no load of nothing"}])
        parsed = rows.parse_body(body, fields, state.row_bytes)
        if parsed.errors:
            raise _JobError(parsed.errors)
        state.append(name, parsed.rows)
        return {"load": {"outputRows": str(parsed.count)}}

    return _run(state, faults, job, run)


def insert_query(state: State, faults: Faults, project: str, resource: dict[str, Any]) -> dict[str, Any]:
    state.need("bigquery.jobs.create", f"Project {project}")
    configuration = _verified(resource["configuration"])
    query = configuration["query"]
    if unknown := set(query) - _QUERY_KEYS:
        raise ApiError(400, "invalid", f"Unknown fields {sorted(unknown)}")
    sql = query["query"]
    merge = _MERGE.match(sql)
    location = _allowed(state, sql) or resource.get("jobReference", {}).get("location") or "US"
    if configuration.get("dryRun"):
        return {
            "jobReference": {"projectId": project, "location": location},
            "configuration": configuration,
            "status": {"state": "DONE"},
            "statistics": {"query": {"totalBytesProcessed": "0"}},
        }
    if sql != "SELECT 1" and not merge:
        raise ApiError(400, "invalidQuery", "the stand-in only rehearses this statement")
    job = _new_job(state, project, resource, location)

    def run() -> dict[str, Any]:
        changed = 0
        if merge:
            for name in merge.groups():
                state.table(name)
            changed = state.store.execute(sql.replace("`", '"')).fetchall()[0][0]
        return {"query": {"numDmlAffectedRows": str(changed), "statementType": "MERGE" if merge else "SELECT"}}

    return _run(state, faults, job, run)


def _allowed(state: State, sql: str) -> str | None:
    """Verify the rights that a statement needs; return the location of what it changes."""
    if create := _CREATE.fullmatch(sql):
        location = state.location_of(create[1])
        state.need("bigquery.tables.create", f"Dataset {create[1]}")
        return location
    if merge := _MERGE.match(sql):
        location = state.location_of(merge[1])
        for right in ("bigquery.tables.updateData", "bigquery.tables.getData"):
            state.need(right, f"Table {merge[1]}")
        return location
    if sql != "SELECT 1":
        raise ApiError(400, "invalidQuery", f"Syntax error: the stand-in does not know this statement: {sql[:60]}")
    return None


class _JobError(Exception):
    def __init__(self, errors: list[dict[str, str]]) -> None:
        super().__init__(errors[0]["message"])
        self.errors = errors


def _verified(configuration: dict[str, Any]) -> dict[str, Any]:
    if unknown := set(configuration) - _CONFIGURATION_KEYS:
        raise ApiError(400, "invalid", f"Unknown fields {sorted(unknown)}")
    verify_labels(configuration.get("labels", {}))
    return configuration


def _new_job(state: State, project: str, resource: dict[str, Any], location: str) -> dict[str, Any]:
    reference = resource["jobReference"]
    job_id = reference["jobId"]
    if not _JOB_ID.fullmatch(job_id):
        raise ApiError(400, "invalid", f"Invalid job ID '{job_id}'")
    if (reference.get("location") or "US").lower() != location.lower():
        raise ApiError(404, "notFound", f"Not found: Dataset was not found in location {reference.get('location')}")
    if f"{project}.{job_id}" in state.jobs:
        raise ApiError(409, "duplicate", f"Already Exists: Job {project}:{location}.{job_id}")
    return {
        "kind": "bigquery#job",
        "id": f"{project}:{location}.{job_id}",
        "user_email": state.account,
        "jobReference": {"projectId": project, "jobId": job_id, "location": location},
        "configuration": resource["configuration"],
    }


def _run(state: State, faults: Faults, job: dict[str, Any], run: Any) -> dict[str, Any]:
    name = "{projectId}.{jobId}".format_map(job["jobReference"])
    fault = faults.of_job(job["jobReference"]["jobId"])
    statistics: dict[str, Any] = {}
    errors: list[dict[str, str]] = []
    try:
        if "error" in fault:
            errors = [fault["error"]]
        else:
            statistics = run()
    except _JobError as error:
        errors = error.errors
    except ApiError as error:
        errors = [{"reason": error.reason, "message": error.message}]
    if "output_rows" in fault:
        count = fault["output_rows"]
        statistics["load"] = {} if count is None else {"outputRows": str(count)}
    now = str(int(time.time() * 1000))
    job["statistics"] = {"creationTime": now, "startTime": now, "endTime": now, **statistics}
    job["status"] = {"state": "DONE"}
    if errors:
        job["status"] |= {"errorResult": errors[0], "errors": errors}
    state.jobs[name] = job
    state.polls[name] = int(fault.get("polls", 0))
    return _shown(state, name)


def _shown(state: State, name: str) -> dict[str, Any]:
    """Return a job, which runs until it was asked for often enough."""
    job = state.jobs[name]
    if state.polls[name] <= 0:
        return job
    state.polls[name] -= 1
    return {**job, "status": {"state": "RUNNING"}, "statistics": {"creationTime": job["statistics"]["creationTime"]}}
