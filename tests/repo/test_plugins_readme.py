"""plugins/README.md: the sink in it is installed, kept to the contract by the suite in it, and exported into."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from cfaudit_export import SinkPlugin
from cfaudit_export.app.resolve import secrets_of
from cfaudit_export.plugin import hookspecs
from cfaudit_export.plugin.registry import build_config
from cfaudit_export.settings import Given, load_settings
from cfaudit_sandbox import Sandbox, SandboxOptions, World

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "plugins" / "README.md").read_text(encoding="utf-8")
SINK, SUITE, *OTHERS = re.findall(r"^```python\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
EVENTS = 200


@pytest.fixture(scope="module")
def environ(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Install the package of the page, and return variables that let a process see it."""
    folder = tmp_path_factory.mktemp("readme")
    (folder / "source").mkdir()
    (folder / "source" / "cfaudit_csv.py").write_text(SINK)
    [project] = re.findall(r"^```toml\n(\[build-system\].*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    (folder / "source" / "pyproject.toml").write_text(project)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    offline = [
        "--no-index",
        "--no-deps",
        "--no-build-isolation",
        "--target",
        str(folder / "site"),
        str(folder / "source"),
    ]
    done = subprocess.run([*pip, *offline], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return {**os.environ, "PYTHONPATH": str(folder / "site")}


def test_the_sink_in_thirty_lines_has_thirty_lines() -> None:
    lines = [line for line in SINK.splitlines() if line.strip() and not line.startswith(("import", "from"))]
    assert len(lines) <= 30


def test_the_suite_on_the_page_passes_the_sink_on_the_page(environ: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "test_csv.py").write_text(SUITE)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_csv.py"]
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert re.search(r"\b1\d passed", done.stdout)


def test_the_command_on_the_page_exports_into_it(environ: dict[str, str], tmp_path: Path) -> None:
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
        environ = environ | {"CLOUDFLARE_API_TOKEN": sandbox.world.tokens["account"], "HOME": str(tmp_path)}
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


def test_the_settings_on_the_page_are_read_and_their_secret_is_known_as_one(tmp_path: Path) -> None:
    [text] = [one for one in OTHERS if "class ServiceConfig" in one]
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(text, "plugins/README.md", "exec", dont_inherit=True), names)  # noqa: S102  # what the page says is to work
    record = SinkPlugin("csv", names["ServiceConfig"], lambda _config: None, "")  # type: ignore[arg-type, return-value]  # it is not built
    [variable] = re.findall(r"`(CFAUDIT_SINKS__CSV__\w+)`", PAGE)
    given = {variable: "s3cr3t", "CFAUDIT_SINKS__CSV__URL": "https://x", "CFAUDIT_SINKS__CSV__TIMEOUT": "2h"}
    settings = load_settings(Given(), environ=given, now=datetime.now(UTC), directory=tmp_path)
    config = build_config(record, settings.sinks["csv"], "sinks.csv", strict=False)
    assert (config.token, config.timeout, config.mode) == ("s3cr3t", timedelta(hours=2), "append")
    assert "s3cr3t" not in repr(config)
    assert list(secrets_of(config)) == ["s3cr3t"]


def test_every_hook_is_on_the_page() -> None:
    hooks = {name for name in vars(hookspecs) if name.startswith("cfaudit_")}
    assert set(re.findall(r"^def (cfaudit_\w+)\(", "".join([SINK, *OTHERS]), re.MULTILINE)) == hooks
