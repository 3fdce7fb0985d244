"""Who may import whom, read from the source of connector and plugins."""

from __future__ import annotations

import ast
import sys
import tomllib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
DOOR = "cfaudit_export"

# What a plugin may import beside the door; CONTRIBUTING names the same.
PUBLIC = {
    "cfaudit_export.core.deadline",
    "cfaudit_export.core.disk",
    "cfaudit_export.core.durable",
    "cfaudit_export.core.redaction",
    "cfaudit_export.core.secret_file",
    "cfaudit_export.http.aws",
    "cfaudit_export.http.bounded_requests",
    "cfaudit_export.http.echoes",
    "cfaudit_export.http.exchange",
    "cfaudit_export.http.webhook",
    "cfaudit_export.parquet",
    "cfaudit_export.proof.chain",
    "cfaudit_export.proof.folder",
    "cfaudit_export.api",
    "cfaudit_export.schema",
    "cfaudit_export.schema_formats",
    "cfaudit_export.stores.document",
    "cfaudit_export.testing",
    "cfaudit_export.core.urls",
}

STEPS = {"plan", "map", "stage", "load", "commit"}
# A run, a run of a slice, which begins and ends in the stream's checkpoint, a replay, and what seals their sinks.
CONDUCTORS = {"run", "slices", "deliver", "sealing", "agreement", "replay"}

# Heavy or delicate libraries, and the only places that know them. Others may be used wherever they help.
HOMES = {
    "airflow": ("cfaudit_airflow",),
    "apprise": ("cfaudit_export.app.alert_channels",),
    "anyio": ("cfaudit_export.http.exchange", "cfaudit_export.sources", "cfaudit_export.auth", "cfaudit_export.serve"),
    "authlib": ("cfaudit_export.auth", "cfaudit_export.sources", "cfaudit_sandbox"),
    # A report reads its files from where the S3 sink put them, with the credentials that this had.
    "boto3": ("cfaudit_s3", "cfaudit_export.analysis"),
    "botocore": ("cfaudit_s3", "cfaudit_export.analysis", "cfaudit_export.http.aws"),
    "cryptography": ("cfaudit_export.proof", "cfaudit_redact"),
    "duckdb": ("cfaudit_export.analysis",),
    "filelock": ("cfaudit_export.stores", "cfaudit_export.auth", "cfaudit_export.analysis"),
    "google": ("cfaudit_bigquery",),
    "httpx2": (
        "cfaudit_export.http.webhook",
        "cfaudit_export.http.exchange",
        "cfaudit_export.sources",
        "cfaudit_export.auth",
        "cfaudit_sandbox",
        "cfaudit_export.serve.jwt",
        "cfaudit_export.app.ping",
        "cfaudit_export.app.stamp",
        "cfaudit_splunk",
    ),
    "isal": ("cfaudit_splunk",),
    "jinja2": ("cfaudit_export.analysis",),
    "joserfc": ("cfaudit_export.serve.jwt",),
    "keyring": ("cfaudit_export.auth",),
    "mcp": ("cfaudit_export.sources", "cfaudit_export.auth", "cfaudit_export.serve", "cfaudit_sandbox"),
    "mcp_types": ("cfaudit_export.sources", "cfaudit_export.auth", "cfaudit_export.serve", "cfaudit_sandbox"),
    "opentelemetry": ("cfaudit_export.metrics.otlp",),
    "platformdirs": ("cfaudit_export.settings",),
    "pluggy": ("cfaudit_export.plugin.hookspecs", "cfaudit_export.plugin.loader", "cfaudit_export.plugin.registry"),
    "pytest": ("cfaudit_export.testing",),
    "requests": ("cfaudit_bigquery", "cfaudit_export.http.bounded_requests", "cfaudit_export.metrics.otlp"),
    "rfc3161_client": ("cfaudit_export.proof.timestamp",),
    # A report is laid out where it is made, and printed by the command line.
    "rich": ("cfaudit_export.cli", "cfaudit_export.analysis"),
    "starlette": ("cfaudit_sandbox", "cfaudit_export.serve"),
    "typer": ("cfaudit_export.cli",),
    "uvicorn": ("cfaudit_sandbox", "cfaudit_export.serve.web"),
    "vl_convert": ("cfaudit_export.analysis",),
}

# Libraries that come with another one, which is declared and cannot be without them.
WITH = {
    "airflow": "apache-airflow",
    "botocore": "boto3",
    "cryptography": "authlib",
    "google": "google-cloud-bigquery",
    "joserfc": "authlib",
    "markupsafe": "jinja2",
    "mcp_types": "mcp",
    "opentelemetry": "opentelemetry-sdk",
    "pydantic": "mcp",
    "requests": "google-cloud-bigquery",
    "rfc3161_client": "rfc3161-client",
    "vl_convert": "vl-convert-python",
}

# The protocol of a credential is asynchronous, as those who ask it are.
ASYNC = (
    "cfaudit_export.http.exchange",
    "cfaudit_export.sources",
    "cfaudit_export.auth",
    "cfaudit_export.serve",
    "cfaudit_sandbox",
    "cfaudit_export.plugin.records",
)

# From the ground up: a room imports from itself and from those in lines above its own. Rooms of one line do not know
# each other. A module belongs to the longest name that fits.
LAYERS = (
    ("cfaudit_export.errors", "cfaudit_export.schema"),
    ("cfaudit_export.core", "cfaudit_export.schema_formats"),
    ("cfaudit_export.http", "cfaudit_export.plugin", "cfaudit_export.proof"),
    ("cfaudit_export",),  # the door, which hands on names of the rooms above
    (
        "cfaudit_export.parquet",
        "cfaudit_export.settings",
        "cfaudit_export.shapes",
        "cfaudit_export.stores",
        "cfaudit_export.metrics",
    ),
    ("cfaudit_export.auth",),
    ("cfaudit_export.sources", "cfaudit_export.sources.mcp", "cfaudit_export.sources.paging"),
    ("cfaudit_export.sources.auditlogs", "cfaudit_export.sources.codemode"),
    ("cfaudit_export.sources.rest",),
    ("cfaudit_sandbox.world",),
    ("cfaudit_sandbox.server",),
    ("cfaudit_sandbox.oauth",),
    ("cfaudit_sandbox.codemode",),
    ("cfaudit_sandbox.serve",),
    ("cfaudit_sandbox",),
    ("cfaudit_export.pipeline.dedup", "cfaudit_export.analysis.files"),
    ("cfaudit_export.pipeline", "cfaudit_export.analysis.answers", "cfaudit_export.analysis.verify"),
    ("cfaudit_export.analysis.rules",),
    ("cfaudit_export.testing", "cfaudit_export.analysis.render"),
    ("cfaudit_export.analysis",),
    ("cfaudit_export.app",),
    ("cfaudit_export.api", "cfaudit_export.serve"),
    ("cfaudit_export.cli",),
    ("cfaudit_export.__main__",),
)
RANKS = {room: rank for rank, rooms in enumerate(LAYERS) for room in rooms}

# Arrows that do not follow the layers yet, from module to room; the list only gets shorter.
EXCEPTIONS: dict[str, str] = {}

# What core has. A module comes here only when rooms that do not know each other need it, and it calls no server.
IN_CORE = {
    "causes",
    "checksums",
    "deadline",
    "disk",
    "durable",
    "escape",
    "filters",
    "gaps",
    "identity",
    "identity_key",
    "installing",
    "intervals",
    "jsonable",
    "model",
    "plurals",
    "redaction",
    "seal",
    "secret_file",
    "spoken",
    "suggest",
    "times",
    "urls",
}

LONGEST = 300
LONGER = {
    "cfaudit_export.core.model": "the vocabulary: one value after the other, hardly any behaviour",
    "cfaudit_export.testing.sink_contract": "one promise of a sink after the other, each with its test",
}


@dataclass(frozen=True)
class Module:
    """A module of the program: its dotted name, and what its source says."""

    name: str
    text: str
    tree: ast.Module
    is_package: bool

    @property
    def imports(self) -> Iterator[tuple[str, str]]:
        """Yield the module and the name of every import, wherever it stands; the name is empty for a whole module."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((alias.name, "") for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{self.name} has a relative import"
                yield from ((node.module or "", alias.name) for alias in node.names)

    @property
    def targets(self) -> set[str]:
        """The modules that are imported, with `from package import module` as that module."""
        return {
            f"{module}.{name}" if f"{module}.{name}" in NAMES else module for module, name in self.imports if module
        }

    def within(self, *places: str) -> bool:
        """Tell whether the module is one of the places or below one."""
        return _within(self.name, places)


def _within(name: str, places: tuple[str, ...]) -> bool:
    return any(name == place or name.startswith(f"{place}.") for place in places)


def read_modules() -> Iterator[Module]:
    """Yield all modules of connector and plugins."""
    for root in (ROOT / "connector", ROOT / "plugins"):
        for path in sorted(root.rglob("*.py")):
            parts = path.relative_to(root).with_suffix("").parts
            is_package = parts[-1] == "__init__"
            text = path.read_text(encoding="utf-8")
            yield Module(".".join(parts[:-1] if is_package else parts), text, ast.parse(text), is_package)


def read_declared() -> set[str]:
    """Return the names of the libraries that are installed with the program or with an extra of it."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lists = [project["dependencies"], *project["optional-dependencies"].values()]
    return {Requirement(one).name for requirements in lists for one in requirements}


DECLARED = read_declared()
NAMES: set[str] = set()
MODULES = list(read_modules())
NAMES.update(module.name for module in MODULES)
OURS = (DOOR, "cfaudit_sandbox")
CORE = [module for module in MODULES if module.within(*OURS)]
PLUGINS = [module for module in MODULES if not module.within(*OURS)]


def of_each(modules: list[Module]) -> Callable[[Callable[[Module], None]], Callable[[], None]]:
    """Make one test of all modules, which names those that break the rule; a test for each would be thousands."""

    def of_check(check: Callable[[Module], None]) -> Callable[[], None]:
        def test() -> None:
            wrong = {}
            for module in modules:
                try:
                    check(module)
                except AssertionError as error:
                    wrong[module.name] = str(error)
            assert not wrong

        return test

    return of_check


def third_party(module: Module) -> set[str]:
    tops = {target.partition(".")[0] for target in module.targets}
    return tops - sys.stdlib_module_names - {name.partition(".")[0] for name in NAMES}


def named(name: str) -> Module:
    return next(module for module in MODULES if module.name == name)


def test_the_rules_speak_of_what_exists() -> None:
    steps = {f"cfaudit_export.pipeline.{step}" for step in STEPS}
    homes = {place for places in HOMES.values() for place in places}
    assert not (steps | PUBLIC | LONGER.keys() | homes) - NAMES


@pytest.mark.parametrize(
    "name",
    [
        "cfaudit_export.errors",
        "cfaudit_export.core.model",
        "cfaudit_export.core.escape",
        "cfaudit_export.core.intervals",
        "cfaudit_export.core.times",
        "cfaudit_export.core.redaction",
        "cfaudit_export.app.log",
    ],
)
def test_the_words_stand_on_the_standard_library_alone(name: str) -> None:
    module = named(name)
    assert not third_party(module)
    assert module.targets & NAMES <= {
        "cfaudit_export.errors",
        "cfaudit_export.core.model",
        "cfaudit_export.core.escape",
        "cfaudit_export.core.redaction",
    }


def test_the_schema_adds_only_pyarrow() -> None:
    module = named("cfaudit_export.schema")
    assert third_party(module) == {"pyarrow"}
    assert not module.targets & NAMES


def test_no_step_of_the_pipeline_knows_another() -> None:
    steps = {f"{DOOR}.pipeline.{step}" for step in STEPS}
    conductors = {f"{DOOR}.pipeline.{name}" for name in CONDUCTORS}
    for module in CORE:
        # What is neither a step nor a conductor is shared by steps, and so may not lean on one either.
        if module.within("cfaudit_export.pipeline") and module.name not in conductors:
            assert not module.targets & (steps | conductors), module.name


@of_each(MODULES)
def test_a_library_is_known_only_where_it_is_at_home(module: Module) -> None:
    strangers = {library for library in third_party(module) & HOMES.keys() if not module.within(*HOMES[library])}
    assert not strangers


@of_each(MODULES)
def test_every_library_is_declared(module: Module) -> None:
    # The suites for authors of plugins are used from their tests, where pytest is.
    used = {WITH.get(library, library) for library in third_party(module)} - {"pytest"}
    assert used <= DECLARED


def test_the_core_does_not_know_its_plugins() -> None:
    tops = {module.name.partition(".")[0] for module in PLUGINS}
    for module in CORE:
        assert not {target.partition(".")[0] for target in module.targets} & tops, module.name


@of_each(PLUGINS)
def test_a_plugin_imports_only_what_is_public_and_itself(module: Module) -> None:
    own = module.name.partition(".")[0]
    door = {name for name in _all(named(DOOR)) if not name.startswith("_")}
    for target, name in module.imports:
        top = target.partition(".")[0]
        if top == DOOR:
            is_public = name in door if target == DOOR else target in PUBLIC
            is_module = f"{target}.{name}" in PUBLIC
            assert is_public or is_module, f"{target} {name}"
        else:
            assert top == own or top not in {one.name.partition(".")[0] for one in PLUGINS}, target


def _all(module: Module) -> list[str]:
    [names] = [
        ast.literal_eval(node.value)
        for node in module.tree.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "__all__"
    ]
    return list(names)


@of_each([one for one in PLUGINS if one.is_package])
def test_a_plugin_announces_itself_without_any_library(module: Module) -> None:
    assert not third_party(module)


def test_nobody_imports_the_command_line() -> None:
    users = {
        module.name for module in MODULES if any(_within(target, ("cfaudit_export.cli",)) for target in module.targets)
    }
    assert {name for name in users if not _within(name, ("cfaudit_export.cli",))} == {"cfaudit_export.__main__"}


@of_each(MODULES)
def test_only_the_command_line_prints_and_ends_the_process(module: Module) -> None:
    called = {ast.unparse(node.func) for node in ast.walk(module.tree) if isinstance(node, ast.Call)}
    streams = {ast.unparse(node) for node in ast.walk(module.tree) if isinstance(node, ast.Attribute)}
    if not module.within("cfaudit_export.cli"):
        assert "print" not in called
        assert not streams & {"sys.stdout", "sys.stderr"}
    if not module.within("cfaudit_export.cli", "cfaudit_export.__main__"):
        assert not called & {"exit", "sys.exit", "os._exit"}


@of_each(MODULES)
def test_only_what_talks_to_servers_is_asynchronous(module: Module) -> None:
    found = any(isinstance(node, ast.AsyncFunctionDef) for node in ast.walk(module.tree))
    assert not found or module.within(*ASYNC)


@of_each(MODULES)
def test_a_file_is_short_or_says_why_not(module: Module) -> None:
    length = module.text.count("\n")
    assert length <= LONGEST or module.name in LONGER


def test_no_two_classes_have_one_name() -> None:
    """A reader who finds a class by its name finds the right one; private ones are seen in their module only."""
    places: dict[str, list[str]] = {}
    for module in MODULES:
        for node in module.tree.body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                places.setdefault(node.name, []).append(module.name)
    assert {name: modules for name, modules in places.items() if len(modules) > 1} == {}


def room_of(name: str) -> str:
    """Return the room of a module, or of one that a door hands on."""
    return max((room for room in RANKS if _within(name, (room,))), key=len)


@of_each(CORE)
def test_a_room_knows_only_itself_and_what_lies_below(module: Module) -> None:
    own = room_of(module.name)
    strangers = {
        target
        for target in module.targets & NAMES
        if _within(target, OURS) and room_of(target) != own and RANKS[room_of(target)] >= RANKS[own]
    }
    assert {room_of(target) for target in strangers} <= {EXCEPTIONS.get(module.name, "")}, strangers


def test_the_layers_and_the_exceptions_speak_of_what_exists() -> None:
    assert not (RANKS.keys() | EXCEPTIONS.keys() | set(EXCEPTIONS.values())) - NAMES
    assert len(RANKS) == sum(map(len, LAYERS))


def test_core_holds_what_is_listed_and_stands_on_the_standard_library_and_arrow() -> None:
    inside = [module for module in CORE if _within(module.name, ("cfaudit_export.core",)) and not module.is_package]
    assert {module.name.rpartition(".")[2] for module in inside} == IN_CORE
    assert set().union(*map(third_party, inside)) <= {"pyarrow"}
