"""What tests of several areas share: a browser, and how patient Hypothesis is."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

# Machines that run tests are busy, and a slow example is no wrong one. What a change is held to is the same each time;
# `pytest --hypothesis-profile=search` looks for cases not thought of yet.
settings.register_profile("search", deadline=None)
settings.register_profile("busy", deadline=None, derandomize=True)
settings.load_profile("busy")

# Hundreds of children run the program: where bytecode is not kept, each of them would compile it anew.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)

INSTALLING = {"test_readme.py", "airflow"}
CHROMIUM, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Any]:
    """A headless Chromium that logs its console and its network; without one, tests that need it are skipped."""
    if not (CHROMIUM and DRIVER):
        pytest.skip("NOT TESTED: a real browser; install it with: apt-get install chromium chromium-driver")
    webdriver = pytest.importorskip("selenium.webdriver", reason="NOT TESTED: a real browser; no selenium")
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    # As root, and in containers with a small /dev/shm, Chromium starts only so.
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run"):
        options.add_argument(argument)
    options.add_argument("--no-proxy-server")
    options.add_argument(f"--user-data-dir={tmp_path / 'chromium'}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    try:
        yield driver
    finally:
        driver.quit()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that install things for a minute: at the end, others would wait for one of them alone."""
    items.sort(key=lambda item: not INSTALLING & set(item.path.parts))
