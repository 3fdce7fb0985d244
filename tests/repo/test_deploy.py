"""The files of deploy/: checked by the tools made for them, and followed to an export."""

from __future__ import annotations

import configparser
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import yaml

from cfaudit_export.errors import ExitCode
from cfaudit_sandbox import Sandbox, SandboxOptions, World

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
PROGRAM = Path(sys.executable).with_name("cfaudit-export")
INSTALLED = "/opt/cfaudit-export/bin/cfaudit-export"
EVENTS = 200
NOBODY = 10001
# Have the kernel refuse what MemoryDenyWriteExecute refuses, then become the program.
WITHOUT_WRITABLE_CODE = (
    "import ctypes, os, sys; assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0; os.execv(sys.argv[1], sys.argv[1:])"
)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox(World(SandboxOptions(events=EVENTS))) as sandbox:
        yield sandbox


@pytest.fixture
def environ(sandbox: Sandbox, tmp_path: Path) -> dict[str, str]:
    """What a process has that was started without a sign-in."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "CFAUDIT_SERVER_URL": sandbox.mcp_url}


@pytest.fixture
def token(sandbox: Sandbox, tmp_path: Path) -> Path:
    """The folder in which something puts the token."""
    folder = tmp_path / "credentials"
    folder.mkdir()
    (folder / "cloudflare-token").write_text(sandbox.world.tokens["account"])
    (folder / "cloudflare-token").chmod(0o400)
    return folder


def unit(name: str) -> configparser.ConfigParser:
    """A unit; of an option that is given several times, all values, one a line."""

    class Values(dict[str, str]):
        def __setitem__(self, key: str, value: Any) -> None:
            if isinstance(value, list) and key in self:
                value = [*self[key], *value]
            super().__setitem__(key, value)

    parser = configparser.ConfigParser(strict=False, interpolation=None, dict_type=Values)
    parser.optionxform = str  # type: ignore[method-assign,assignment] # systemd tells capitals apart
    parser.read(DEPLOY / "systemd" / name, encoding="utf-8")
    return parser


def lines(parser: configparser.ConfigParser, option: str) -> list[str]:
    return parser["Service"][option].splitlines()


def run(command: list[str], environ: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
    given = {"timeout": 120} | options
    return subprocess.run(command, env=environ, capture_output=True, text=True, check=False, **given)


def rows_in(folder: Path) -> int:
    return sum(pq.read_metadata(file).num_rows for file in folder.rglob("*.parquet"))


needs_systemd = pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="NOT TESTED: units; no systemd-analyze")


@needs_systemd
def test_systemd_understands_the_units(tmp_path: Path, environ: dict[str, str]) -> None:
    for path in (DEPLOY / "systemd").glob("cfaudit-export.*"):
        # It looks for the program, which is not installed there.
        text = path.read_text(encoding="utf-8").replace(INSTALLED, str(PROGRAM))
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    units = [str(tmp_path / f"cfaudit-export.{kind}") for kind in ("service", "timer")]
    verified = run(["systemd-analyze", "verify", "--man=no", *units], environ)
    ours = [line for line in verified.stderr.splitlines() if "cfaudit" in line]
    assert (verified.returncode, ours) == (0, [])


@needs_systemd
def test_the_service_may_do_next_to_nothing(environ: dict[str, str]) -> None:
    unit_file = str(DEPLOY / "systemd" / "cfaudit-export.service")
    judged = run(["systemd-analyze", "security", "--offline=true", "--threshold=15", unit_file], environ)
    assert judged.returncode == 0, judged.stdout  # an exposure of 1.5 of 10 at most


def test_the_service_exports_with_the_token_that_systemd_hands_it(
    sandbox: Sandbox, environ: dict[str, str], token: Path, tmp_path: Path
) -> None:
    service = unit("cfaudit-export.service")
    state = tmp_path / "var" / "lib"
    state.mkdir(parents=True)
    assert service["Service"]["LoadCredential"].startswith("cloudflare-token:")
    for line in lines(service, "Environment"):
        name, _, value = line.partition("=")
        environ[name] = value.replace("%d", str(token)).replace("%S", str(state))
    config = tmp_path / "cfaudit.toml"
    text = (DEPLOY / "systemd" / "cfaudit.toml").read_text(encoding="utf-8")
    config.write_text(text.replace("/var/lib", str(state)), encoding="utf-8")
    [line] = lines(service, "ExecStart")
    command = line.replace(INSTALLED, str(PROGRAM)).replace("/etc/cfaudit-export/cfaudit.toml", str(config))
    assert service["Service"]["MemoryDenyWriteExecute"] == "yes"
    done = run([sys.executable, "-c", WITHOUT_WRITABLE_CODE, *shlex.split(command)], environ)
    assert done.returncode == 0, done.stderr
    assert rows_in(state / "cfaudit-export" / "out") == EVENTS
    assert "can be read by others" not in done.stderr
    assert not [path for path in state.iterdir() if path.name != service["Service"]["StateDirectory"]]


def test_cron_exports_and_the_log_is_the_one_that_is_rotated(
    sandbox: Sandbox, environ: dict[str, str], token: Path, tmp_path: Path
) -> None:
    tab = (DEPLOY / "cron" / "cfaudit-export").read_text(encoding="utf-8")
    [line] = re.findall(r"^[\d*].*$", tab, re.MULTILINE)
    *times, user, command = line.split(maxsplit=6)
    assert (len(times), user) == (5, "cfaudit")
    log = "/var/log/cfaudit-export/export.log"
    assert f"2>> {log}" in command
    assert f"{log} {{" in (DEPLOY / "cron" / "logrotate").read_text(encoding="utf-8")
    config = tmp_path / "cfaudit.toml"
    text = f'sink = ["parquet"]\ntoken_file = "{token / "cloudflare-token"}"\nsinks.parquet.path = "{tmp_path / "out"}"'
    config.write_text(text, encoding="utf-8")
    for there, here in ((INSTALLED, PROGRAM), ("/etc/cfaudit-export/cfaudit.toml", config), (log, tmp_path / "log")):
        command = command.replace(there, str(here))
    for name, value in re.findall(r"^(CFAUDIT_\w+)=(.*)$", tab, re.MULTILINE):
        environ[name] = value.replace("/var/lib", str(tmp_path))
    done = run(["/bin/sh", "-c", command], environ)
    assert (done.returncode, done.stderr) == (0, "")
    assert rows_in(tmp_path / "out") == EVENTS
    assert json.loads((tmp_path / "log").read_text().splitlines()[-1])["message"]


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    text = (DEPLOY / "kubernetes" / "cfaudit-export.yaml").read_text(encoding="utf-8")
    found = list(yaml.safe_load_all(text))
    jobs = {manifest["metadata"]["name"]: manifest for manifest in found if manifest["kind"] == "CronJob"}
    others = {manifest["kind"]: manifest for manifest in found if manifest["kind"] != "CronJob"}
    return others | {"CronJob": jobs["cfaudit-export"], "watch": jobs["cfaudit-export-watch"]}


def test_kubernetes_knows_every_field_of_the_manifests(environ: dict[str, str]) -> None:
    validate = str(PROGRAM.with_name("kubernetes-validate"))
    for version in ("1.29.0", "1.37.0"):
        checked = run(
            [validate, "--strict", "-k", version, str(DEPLOY / "kubernetes" / "cfaudit-export.yaml")], environ
        )
        assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("job", ["CronJob", "watch"])
def test_the_pod_is_nobody_and_writes_only_where_a_volume_is(manifests: dict[str, Any], job: str) -> None:
    pod = manifests[job]["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    volumes = {volume["name"]: volume for volume in pod["volumes"]}
    for mount in container["volumeMounts"]:
        assert mount.get("readOnly") is True or "emptyDir" in volumes[mount["name"]]
    assert {volume["secret"]["defaultMode"] for volume in volumes.values() if "secret" in volume} <= {0o440}


def test_a_job_is_not_tried_again_where_waiting_cures_nothing(manifests: dict[str, Any]) -> None:
    assert manifests["CronJob"]["spec"]["concurrencyPolicy"] == "Forbid"
    [rule] = manifests["CronJob"]["spec"]["jobTemplate"]["spec"]["podFailurePolicy"]["rules"]
    waiting = {ExitCode.OK, ExitCode.SINK_DOWN, ExitCode.TRY_AGAIN}
    assert set(rule["onExitCodes"]["values"]) == {int(code) for code in ExitCode if code not in waiting}


def test_the_job_exports_into_the_bucket_and_keeps_its_checkpoint_there(
    manifests: dict[str, Any], environ: dict[str, str], token: Path, tmp_path: Path
) -> None:
    import boto3
    from moto.server import ThreadedMotoServer

    [container] = manifests["CronJob"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    config = tmp_path / "cfaudit.toml"
    config.write_text(manifests["ConfigMap"]["data"]["cfaudit.toml"], encoding="utf-8")
    for given in container["env"]:
        environ[given["name"]] = given["value"].replace("/var/run/secrets/cfaudit-export", str(token))
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        access = {"AWS_ACCESS_KEY_ID": "id", "AWS_SECRET_ACCESS_KEY": "secret", "AWS_DEFAULT_REGION": "us-east-1"}
        environ |= access | {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.get_host_and_port()[1]}"}
        client = boto3.client(
            "s3",
            endpoint_url=environ["AWS_ENDPOINT_URL"],
            region_name="us-east-1",
            aws_access_key_id="id",
            aws_secret_access_key="secret",
        )
        client.create_bucket(Bucket="example-audit-logs")
        args = [word.replace("/etc/cfaudit-export/cfaudit.toml", str(config)) for word in container["args"]]
        for pod in ("one", "another"):  # each begins with an empty disk
            done = run([str(PROGRAM), *args, "--json"], environ | {"CFAUDIT_STATE_DIR": str(tmp_path / pod)})
            assert done.returncode == 0, done.stderr
        [watch] = manifests["watch"]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
        args = [word.replace("/etc/cfaudit-export/cfaudit.toml", str(config)) for word in watch["args"]]
        without = {name: value for name, value in environ.items() if name != "CFAUDIT_TOKEN_FILE"}
        watched = run([str(PROGRAM), *args], without | {"CFAUDIT_STATE_DIR": str(tmp_path / "third")})
        assert watched.returncode == 0, watched.stdout + watched.stderr
        [report] = json.loads(done.stdout)
        assert sum(sink["rows"] for sink in report["sinks"]) == 0
        keys = [found["Key"] for found in client.list_objects_v2(Bucket="example-audit-logs")["Contents"]]
        client.close()
    finally:
        server.stop()
    assert any(key.startswith("checkpoints/") for key in keys)
    assert any(key.startswith("cloudflare/") and key.endswith(".parquet") for key in keys)


DOCKERFILE = (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def instructions() -> list[tuple[str, str]]:
    joined = DOCKERFILE.replace("\\\n", " ")
    found = [line.split(maxsplit=1) for line in joined.splitlines() if line and not line.startswith("#")]
    return [(name, " ".join(rest.split())) for name, rest in found]


def test_the_dockerfile_is_sound(environ: dict[str, str]) -> None:
    checked = run([str(PROGRAM.with_name("hadolint")), str(DEPLOY / "Dockerfile")], environ)
    assert (checked.returncode, checked.stdout) == (0, "")


def test_the_image_has_neither_compiler_nor_source_and_is_nobody() -> None:
    found = instructions()
    stages = [index for index, (name, _) in enumerate(found) if name == "FROM"]
    assert len(stages) == 2
    final = dict(found[stages[1] :])
    assert final["COPY"].startswith("--from=build ")
    assert "RUN" not in final
    assert final["USER"] == f"{NOBODY}:{NOBODY}"
    assert json.loads(final["ENTRYPOINT"]) == ["cfaudit-export"]


@pytest.mark.soak  # installs everything anew
def test_the_image_as_it_is_built_exports_and_writes_only_where_the_volume_is(
    sandbox: Sandbox, environ: dict[str, str], tmp_path: Path
) -> None:
    image, state = tmp_path / "image", tmp_path / "state"
    image.mkdir()

    def here(text: str) -> str:
        return re.sub(r"(?<![\w.])/(src|opt|state)\b", rf"{image}/\1", text)

    build = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": os.environ.get("HOME", "/")}
    for name, rest in instructions():
        if name == "COPY" and not rest.startswith("--from"):
            *sources, target = rest.split()
            for source in sources:
                run(["mkdir", "-p", here(target)], build)
                into = here(target).rstrip("/")
                command = ["cp", "-rT", source, into] if Path(ROOT / source).is_dir() else ["cp", source, into]
                assert run(command, build, cwd=ROOT).returncode == 0
        elif name == "RUN":
            done = run(["sh", "-c", here(rest)], build, timeout=1200)
            assert done.returncode == 0, done.stderr
    shutil.rmtree(image / "src")
    inside = dict(re.findall(r"(\w+)=(\S+)", here(dict(instructions())["ENV"])))
    inside |= {"CFAUDIT_STATE_DIR": str(state), "CFAUDIT_SERVER_URL": sandbox.mcp_url}
    state.mkdir()
    inside |= {"CLOUDFLARE_API_TOKEN": sandbox.world.tokens["account"]}
    command = [str(image / "opt/cfaudit-export/bin/cfaudit-export"), "--sink", "parquet"]
    before = set(image.rglob("*"))
    done = run([*command, "-o", f"sinks.parquet.path={state}/out"], inside, cwd=state)
    assert done.returncode == 0, done.stderr
    assert rows_in(state / "out") == EVENTS
    assert set(image.rglob("*")) == before  # so that the root may be read-only
