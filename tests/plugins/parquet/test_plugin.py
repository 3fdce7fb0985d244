from __future__ import annotations

import subprocess
import sys

import cfaudit_parquet
from cfaudit_parquet.sink import ParquetSink


def test_the_plugin_offers_the_sink_parquet() -> None:
    (plugin,) = cfaudit_parquet.cfaudit_sinks()
    assert plugin.name == "parquet"
    assert plugin.extra is None
    assert isinstance(plugin.build(plugin.config(path="out")), ParquetSink)


def test_listing_the_plugin_imports_nothing_heavy() -> None:
    code = "import sys, cfaudit_parquet; list(cfaudit_parquet.cfaudit_sinks()); print('pyarrow' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    assert done.stdout == "False\n"
