"""A program for Airflow's own environment: runs DAGs as `airflow dags test` does, one after the other.

    driver.py '[{"dag": "refused"}, ...]'

Each step names a DAG, and may give `conf`, `date` and `out`, the folder whose files are listed afterwards. With
`waits` it is left when there is nothing to do but to wait. What became of each is a line of JSON on stdout.
"""

from __future__ import annotations

import json
import logging
import sys
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

from airflow.configuration import conf
from airflow.dag_processing.dagbag import DagBag
from airflow.models.asset import AssetEvent
from airflow.models.dagrun import DagRun
from airflow.models.pool import Pool
from airflow.utils.db import initdb
from airflow.utils.session import create_session
from sqlalchemy import select


class WaitingError(Exception):
    """Nothing is left to do at this moment."""


def main() -> None:
    """Do the steps."""
    initdb()
    logging.getLogger("airflow").setLevel(logging.INFO)
    Pool.create_or_update_pool("cloudflare_audit", slots=4, description="", include_deferred=False)
    bag = DagBag(conf.get("core", "dags_folder"), bundle_name="dags-folder")
    say({"dags": sorted(bag.dags), "errors": bag.import_errors})
    for step in json.loads(sys.argv[1]):
        date = {"logical_date": datetime.fromisoformat(step["date"])} if "date" in step else {}
        dag = bag.dags[step["dag"]]
        if step.get("waits"):
            with patch("time.sleep", side_effect=WaitingError), suppress(WaitingError):
                dag.test(run_conf=step.get("conf"), **date)
            [run] = DagRun.find(dag_id=dag.dag_id)
        else:
            run = dag.test(run_conf=step.get("conf"), **date)
        instances = sorted(run.get_task_instances(), key=lambda one: (one.task_id, one.map_index))
        say(
            {
                "state": str(run.state),
                "tasks": [tell(one) for one in instances],
                "files": sorted(str(path) for path in Path(step["out"]).rglob("*.parquet")) if "out" in step else [],
                "events": events(),
            }
        )


def tell(instance: Any) -> dict[str, Any]:
    """Return what became of a task."""
    return {
        "task": instance.task_id,
        "index": instance.map_index,
        "state": str(instance.state),
        "tries": instance.try_number,
        "delay": instance.retry_delay_override,
        "returned": pulled(instance, "return_value"),
        "report": pulled(instance, "report"),
    }


def pulled(instance: Any, key: str) -> Any:
    """Return what a task left under a key."""
    return instance.xcom_pull(task_ids=instance.task_id, map_indexes=instance.map_index, key=key)


def events() -> list[list[Any]]:
    """Return all events of assets so far: the URI and what is said of it."""
    with create_session() as session:
        found = session.scalars(select(AssetEvent).order_by(AssetEvent.id)).all()
        return [[one.uri, one.extra.get("rows")] for one in found]


def say(line: Any) -> None:
    """Print a line that the tests find among those of Airflow."""
    print("SAID " + json.dumps(line, default=str), flush=True)


main()
