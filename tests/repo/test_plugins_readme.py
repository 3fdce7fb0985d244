"""plugins/README.md: the sink in it is installed, kept to the contract by the suite in it, and exported into."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from cfaudit_export import hookspecs
from cfaudit_export.sandbox import Sandbox, SandboxOptions, World

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
SINK, SUITE, *OTHERS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
EVENTS = 200


def install(site: Path) -> dict[str, str]:
    """Install the sink, and return variables that let a process see it."""
    info = site / "cfaudit_csv-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "cfaudit_csv.py").write_text(SINK)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: cfaudit-csv\nVersion: 1.0\n")
    [entry_points] = re.findall(
        r"^\[project\.entry-points\.cfaudit_export\]\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL
    )
    (info / "entry_points.txt").write_text("[cfaudit_export]\n" + entry_points.replace('"', ""))
    return {**os.environ, "PYTHONPATH": str(site)}


def test_the_sink_in_thirty_lines_has_thirty_lines() -> None:
    lines = [line for line in SINK.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 30


def test_the_suite_on_the_page_passes_the_sink_on_the_page(tmp_path: Path) -> None:
    environ = install(tmp_path / "site")
    (tmp_path / "test_csv.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_csv.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b1\d passed", done.stdout)


def test_the_command_on_the_page_exports_into_it(tmp_path: Path) -> None:
    environ = install(tmp_path / "site")
    with Sandbox(World(SandboxOptions(events=EVENTS))) as sandbox:
        [words] = re.findall(r"^cfaudit-export (--sink csv .*)$", PAGE, re.MULTILINE)
        source = [
            "--server-url",
            sandbox.mcp_url,
            "--state-dir",
            "state",
            "--since",
            "40d",
            "--settle-lag",
            "0s",
            "--json",
        ]
        environ |= {"CLOUDFLARE_API_TOKEN": sandbox.world.tokens["account"], "HOME": str(tmp_path)}
        done = subprocess.run(
            [sys.executable, "-m", "cfaudit_export", *words.split(), *source],
            cwd=tmp_path,
            env=environ,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    [report] = json.loads(done.stdout)
    assert report["sinks"][0]["rows"] == EVENTS
    assert list((tmp_path / "out").glob("*.csv"))


def test_every_hook_is_on_the_page() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("cfaudit_")}
    assert set(re.findall(r"^def (cfaudit_\w+)\(", "".join([SINK, *OTHERS]), re.MULTILINE)) == hooks
