"""Samples -> a text file that the node exporter of Prometheus serves (`--collector.textfile.directory`).

A run lasts seconds, and what scrapes comes by once a minute: so counters go on from what the file said before, and
what other runs left there about other streams stays. Without the file everything starts anew, as after a restart.
"""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from cfaudit_export.core.disk import read_file
from cfaudit_export.core.durable import replace_file
from cfaudit_export.metrics import METRICS, Metric, Sample

_LOG = logging.getLogger(__name__)
# Readable for the node exporter, which runs as another user; there are no secrets in it.
_MODE = 0o644
_LINE = re.compile(r'(\w+)(\{(?:[^"\\]|"(?:[^"\\]|\\.)*")*\}) (\S+)')
_LABEL = re.compile(r'(\w+)="(?:[^"\\]|\\.)*"')
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})

_Values = dict[tuple[str, str], float]


def write_textfile(path: Path, samples: Iterable[Sample]) -> None:
    """Put the samples into the file, whole or not at all. One that cannot be written is logged, and changes nothing.

    Processes that write at the same moment wait for each other, so that none loses what another one counted.
    """
    try:
        with _alone(path.parent):
            values = _added(_read(path), samples)
            _replace(path, "".join(f"{line}\n" for line in _lines(values)))
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it holds something else than metrics of this program"
        _LOG.warning("metrics file cannot be written", extra={"path": str(path), "error": why or str(error)})


def _added(before: _Values, samples: Iterable[Sample]) -> _Values:
    values = dict(before)
    for sample in samples:
        key = sample.metric.prometheus_name, _labels(sample.labels)
        if sample.initial and key in values:
            continue
        values[key] = sample.value + (before.get(key, 0) if sample.metric.kind == "counter" else 0)
    return values


def _read(path: Path) -> _Values:
    """Return what the file says of our metrics.

    Raises:
        ValueError: it is not a file of ours.
    """
    try:
        lines = read_file(path).decode().split("\n")
    except FileNotFoundError:
        return {}
    labels_of = {metric.prometheus_name: set(metric.labels) for metric in METRICS}
    values: _Values = {}
    for line in lines:
        if not line or line.startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if found is None:
            raise ValueError(line)
        name, labels, value = found.groups()
        # What an earlier version wrote with other labels would never be written again, and stay for ever.
        if labels_of.get(name) == set(_LABEL.findall(labels or "")):
            values[name, labels] = float(value)
    return values


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Hold the folder, where the system can, as long as a file in it is read and replaced; nothing is left behind."""
    try:
        import fcntl
    except ImportError:  # there is no such lock on this system
        yield
        return
    held = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):
            fcntl.flock(held, fcntl.LOCK_EX)
        yield
    finally:
        os.close(held)


def _lines(values: _Values) -> Iterator[str]:
    """Yield the text exposition format, all samples of a metric together.

    https://prometheus.io/docs/instrumenting/exposition_formats/
    """
    for metric in METRICS:
        samples = sorted((labels, value) for (name, labels), value in values.items() if name == metric.prometheus_name)
        if samples:
            yield from _head(metric)
        for labels, value in samples:
            yield f"{metric.prometheus_name}{labels} {int(value) if value == int(value) else value!r}"


def _head(metric: Metric) -> Iterator[str]:
    yield f"# HELP {metric.prometheus_name} {metric.help}"
    yield f"# TYPE {metric.prometheus_name} {metric.kind}"


def _labels(labels: Mapping[str, str]) -> str:
    pairs = ",".join(f'{name}="{value.translate(_ESCAPES)}"' for name, value in sorted(labels.items()))
    return f"{{{pairs}}}"


def _replace(path: Path, text: str) -> None:
    # The node exporter reads every file that ends in .prom, so the temporary one does not.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    replace_file(path, lambda file: file.write(text.encode()), temporary=temporary, mode=_MODE)
