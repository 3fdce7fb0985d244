from __future__ import annotations

import subprocess
import sys

import cfaudit_splunk
from cfaudit_splunk.sink import SplunkSink


def imported_by(code: str) -> set[str]:
    code += "; import sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return set(done.stdout.split())


def test_the_plugin_offers_the_sink_splunk() -> None:
    (plugin,) = cfaudit_splunk.cfaudit_sinks()
    assert plugin.name == "splunk"
    assert isinstance(plugin.build(plugin.config(url="https://splunk.example.com:8088")), SplunkSink)


def test_listing_the_plugin_imports_nothing_heavy() -> None:
    found = imported_by("import cfaudit_splunk; list(cfaudit_splunk.cfaudit_sinks())")
    assert not found & {"pyarrow", "httpx2", "isal", "cfaudit_splunk.sink"}


def test_the_sink_does_without_parquet() -> None:
    found = imported_by("import cfaudit_splunk.sink, pyarrow.compute")
    assert "httpx2" in found
    assert not found & {"pyarrow.parquet", "pyarrow.dataset"}
