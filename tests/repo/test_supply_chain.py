"""What is installed and run is what was looked at: digests in the container, commits in the workflow."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
LISTS = ("requirements.txt", "requirements-build.txt", "requirements-sbom.txt")
SIGNING = {"contents": "read", "id-token": "write", "attestations": "write"}


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Return version and number of digests of each distribution of a list."""
    text = (ROOT / "deploy" / name).read_text(encoding="utf-8").replace("\\\n", " ")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    found = {}
    for line in lines:
        requirement, *digests = line.split("--hash=sha256:")
        asked = Requirement(requirement.strip())
        [pin] = asked.specifier
        assert pin.operator == "=="
        found[asked.name] = (pin.version, len(digests))
    return found


@pytest.mark.parametrize("name", LISTS)
def test_every_library_of_the_container_has_its_digests_and_no_place_is_named(name: str) -> None:
    found = locked(name)
    assert found
    assert all(digests for _, digests in found.values())
    assert not re.search(r"://|--(?:index|find|extra|trusted)", (ROOT / "deploy" / name).read_text(encoding="utf-8"))


def test_the_list_holds_what_the_program_asks_for_within_its_bounds() -> None:
    found = locked("requirements.txt")
    extras = PROJECT["project"]["optional-dependencies"]
    asked = [
        *PROJECT["project"]["dependencies"],
        *(line for name in ("s3", "bigquery", "splunk") for line in extras[name]),
    ]
    for requirement in map(Requirement, asked):
        version, _ = found[requirement.name]
        assert requirement.specifier.contains(version), "run deploy/lock"
    [builder] = map(Requirement, PROJECT["build-system"]["requires"])
    assert builder.specifier.contains(locked("requirements-build.txt")[builder.name][0])


def test_the_container_installs_nothing_without_a_digest() -> None:
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    installs = re.findall(r"pip (?:install|wheel)\b[^&]*", text)
    assert len(installs) == 4
    assert all("--require-hashes" in one or "--no-deps" in one for one in installs)
    ignored = (ROOT / "deploy" / "Dockerfile.dockerignore").read_text(encoding="utf-8")
    assert all(f"!deploy/{name}\n" in ignored for name in LISTS[:2])


def workflow(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / name).read_text(encoding="utf-8"))
    return found


def test_a_workflow_may_read_only_but_to_sign_and_its_actions_are_commits() -> None:
    for path in (ROOT / ".github" / "workflows").iterdir():
        found = workflow(path.name)
        assert found["permissions"] == {"contents": "read"}
        more = {name: job["permissions"] for name, job in found["jobs"].items() if "permissions" in job}
        assert more == ({"attest": SIGNING} if path.name == "release.yml" else {})
        steps = [step for job in found["jobs"].values() for step in job["steps"]]
        assert all(re.fullmatch(r"[\w./-]+@[0-9a-f]{40}", step["uses"]) for step in steps if "uses" in step)


def test_a_release_is_built_with_locked_tools_and_signed_by_a_job_that_builds_nothing() -> None:
    jobs = workflow("release.yml")["jobs"]
    commands = "\n".join(step.get("run", "") for step in jobs["build"]["steps"])
    installs = re.findall(r"pip install .*", commands)
    assert installs == [f"pip install --require-hashes -r deploy/{name}" for name in LISTS[1:]]
    assert jobs["attest"]["needs"] == "build"
    assert not [step for step in jobs["attest"]["steps"] if "run" in step]
    *_, last = jobs["attest"]["steps"]
    assert last["uses"].startswith("actions/attest-build-provenance@")
    assert last["with"] == {"subject-path": "release/*"}


def test_a_release_tries_the_container_from_a_base_image_by_digest_and_names_it() -> None:
    """The registry cannot be asked here: the workflow does it, and the page says so."""
    commands = "\n".join(step.get("run", "") for step in workflow("release.yml")["jobs"]["build"]["steps"])
    dockerfile = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    [tag] = re.findall(r"^ARG BASE=(\S+)$", dockerfile, re.MULTILINE)
    assert re.findall(r"^FROM (\S+)", dockerfile, re.MULTILINE) == ["${BASE}", "${BASE}"]
    assert f"docker buildx imagetools inspect {tag} --format '{{{{.Manifest.Digest}}}}'" in commands
    assert '[[ "$digest" =~ ^sha256:[0-9a-f]{64}$ ]]' in commands
    assert f'docker build --build-arg "BASE={tag}@$digest" -f deploy/Dockerfile' in commands
    assert f'echo "{tag}@$digest" > release/base-image.txt' in commands
    for page in ("docs/deploy.md", ".github/SECURITY.md"):
        assert "base-image.txt" in (ROOT / page).read_text(encoding="utf-8")


def test_the_command_for_the_sbom_is_what_the_release_runs_and_the_page_names() -> None:
    commands = [step.get("run", "") for step in workflow("release.yml")["jobs"]["build"]["steps"]]
    assert any("deploy/sbom release/cfaudit-export.cdx.json\n" in one for one in commands)
    page = (ROOT / ".github" / "SECURITY.md").read_text(encoding="utf-8")
    assert "deploy/sbom cfaudit-export.cdx.json" in page
    assert "gh attestation verify" in page


@pytest.mark.skipif(not importlib.util.find_spec("cyclonedx_py"), reason="cyclonedx-bom is not installed")
def test_the_sbom_names_every_locked_library_with_its_digests(tmp_path: Path) -> None:
    file = tmp_path / "sbom.json"
    # To check it against the whole schema takes the tool ten seconds, and the release does it.
    command = [str(ROOT / "deploy" / "sbom"), str(file), "--no-validate"]
    subprocess.run(command, check=True, capture_output=True, env=os.environ | {"PYTHON": sys.executable})
    told = json.loads(file.read_text(encoding="utf-8"))
    assert (told["bomFormat"], told["specVersion"]) == ("CycloneDX", "1.6")
    assert told["metadata"]["component"]["name"] == PROJECT["project"]["name"]
    found = {
        one["name"]: (one["version"], sum(len(place["hashes"]) for place in one["externalReferences"]))
        for one in told["components"]
    }
    assert found == locked("requirements.txt")


def test_the_workflow_tries_each_python_that_the_program_is_for() -> None:
    named = [line.rpartition(" ")[2] for line in PROJECT["project"]["classifiers"] if "Python :: 3." in line]
    assert workflow("checks.yml")["jobs"]["checks"]["strategy"]["matrix"]["python"] == named


def test_pods_and_the_service_leave_nothing_open() -> None:
    documents = list(yaml.safe_load_all((ROOT / "deploy" / "kubernetes" / "cfaudit-export.yaml").read_text()))
    [policy] = [one for one in documents if one["kind"] == "NetworkPolicy"]
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    assert "ingress" not in policy["spec"]
    for job in (one for one in documents if one["kind"] == "CronJob"):
        template = job["spec"]["jobTemplate"]["spec"]["template"]
        assert template["metadata"]["labels"] == policy["spec"]["podSelector"]["matchLabels"]
        volumes = [one["emptyDir"] for one in template["spec"]["volumes"] if "emptyDir" in one]
        assert all("sizeLimit" in one for one in volumes)
    service = (ROOT / "deploy" / "systemd" / "cfaudit-export.service").read_text(encoding="utf-8")
    assert "\nLimitCORE=0\n" in service
