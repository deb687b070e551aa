"""What cannot be run here (there is no container engine) is at least read: names, paths and settings must be right."""

import json
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml

from dispatch.settings import Settings
from dispatch.start import POSTGRES_VERSION_MIN

ROOT = Path(__file__).resolve().parents[1]
SETTINGS = {f"DISPATCH_{name.upper()}" for name in Settings.model_fields}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return dict(yaml.safe_load((ROOT / "docker-compose.yml").read_text()))


@pytest.fixture(scope="module")
def dockerfile() -> list[str]:
    """Its instructions, one per line, continuation lines joined."""
    text = (ROOT / "Dockerfile").read_text().replace("\\\n", " ")
    return [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#")]


def test_compose_gives_the_server_its_stores_and_only_settings_that_exist(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert set(services) == {"server", "postgres", "valkey"}
    environment = services["server"]["environment"]
    assert {name for name in environment if name.startswith("DISPATCH_")} <= SETTINGS
    assert re.fullmatch(
        r"postgresql://dispatch:\$\{POSTGRES_PASSWORD:\?.*\}@postgres:5432/dispatch", environment["DATABASE_URL"]
    )
    assert environment["REDIS_URL"] == "redis://valkey:6379/0"
    assert (
        services["postgres"]["environment"]["POSTGRES_DB"]
        == services["postgres"]["environment"]["POSTGRES_USER"]
        == "dispatch"
    )
    for store in ("postgres", "valkey"):
        assert services["server"]["depends_on"][store] == {"condition": "service_healthy"}
        assert services[store]["healthcheck"]["test"][0] == "CMD"
        assert "ports" not in services[store]  # only the server is reachable from outside


def test_compose_holds_no_secret_and_keeps_no_default_for_one(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for name in ("POSTGRES_PASSWORD", "DISPATCH_JWT_SECRETS"):
        used = re.findall(rf"\$\{{{name}([^}}]*)\}}", text)
        assert used
        assert all(rest.startswith(":?") for rest in used)


def test_compose_keeps_data_in_named_volumes(compose: dict[str, Any]) -> None:
    for store, place in (("postgres", "/var/lib/postgresql"), ("valkey", "/data"), ("server", "/data")):
        name, _, inside = compose["services"][store]["volumes"][0].partition(":")
        assert name in compose["volumes"]
        assert inside == place
    assert int(compose["services"]["postgres"]["image"].partition(":")[2]) >= POSTGRES_VERSION_MIN
    assert "noeviction" in compose["services"]["valkey"]["command"]


def test_the_image_copies_what_exists_and_is_let_in(dockerfile: list[str]) -> None:
    let_in = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {
        word for line in dockerfile if line.startswith("COPY") and "--from" not in line for word in line.split()[1:-1]
    }
    assert copied == let_in
    for name in copied:
        assert (ROOT / name).exists(), f"the Dockerfile copies {name}, which is not there"


def test_the_image_runs_the_server_as_nobody_in_particular(dockerfile: list[str]) -> None:
    last_stage = dockerfile[max(i for i, line in enumerate(dockerfile) if line.startswith("FROM")) :]
    users = [line.split()[1] for line in last_stage if line.startswith("USER")]
    assert users
    assert users[-1] not in {"root", "0"}
    assert json.loads(last_stage[-2].removeprefix("ENTRYPOINT ")) == ["dispatch"]
    assert json.loads(last_stage[-1].removeprefix("CMD ")) == ["serve"]
    health = next(line for line in last_stage if line.startswith("HEALTHCHECK"))
    script = json.loads(health.partition("CMD ")[2])
    assert script[0] == "python"
    compile(script[2], "healthcheck", "exec")
    assert "/readyz" in script[2]
    named = set(re.findall(r"DISPATCH_[A-Z_]+", "\n".join(dockerfile)))
    assert named
    assert named <= SETTINGS


def test_a_container_counts_nothing_as_paid_that_nobody_pays(compose: dict[str, Any], dockerfile: list[str]) -> None:
    """Its data directory is a memory: files of payouts would be gone with it, and the money counted as paid."""
    assert any("DISPATCH_PAYOUT_BY=manual" in line for line in dockerfile if line.startswith("ENV "))
    assert compose["services"]["server"]["environment"]["DISPATCH_PAYOUT_BY"] == "${DISPATCH_PAYOUT_BY:-manual}"


def test_the_lock_pins_everything_by_hash_and_names_no_index() -> None:
    text = (ROOT / "requirements.lock").read_text()
    assert "://" not in text
    entries = re.split(r"\n(?=\S)", text.strip())
    assert len(entries) > 40
    for entry in entries:
        assert re.match(r"[A-Za-z0-9._-]+==\S+", entry), entry[:80]
        assert "--hash=sha256:" in entry, entry[:80]


def test_the_lock_holds_what_the_project_asks_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [*project["dependencies"], *(one for extra in project["optional-dependencies"].values() for one in extra)]
    locked = dict(re.findall(r"^([A-Za-z0-9._-]+)==([^ ;\\]+)", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    for requirement in asked:
        name, _, version = requirement.partition(";")[0].strip().partition("==")
        name = name.partition("[")[0]
        assert name in locked or ">" in name, f"{requirement} is not in requirements.lock: make lock"
        if version and "*" not in version:
            assert locked[name] == version, f"{requirement} is not what requirements.lock pins: make lock"


def test_make_lists_every_target() -> None:
    makefile = (ROOT / "Makefile").read_text()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    done = subprocess.run(["make"], capture_output=True, text=True, check=True, cwd=ROOT, env=environment)
    targets = re.search(r"^\.PHONY: (.*)$", makefile, re.MULTILINE)
    assert targets is not None
    assert [line.split()[1] for line in done.stdout.splitlines()] == targets[1].split()


def test_ci_runs_the_readmes_test_command_and_nothing_else() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    commands = [line for line in script.read_text().splitlines() if line and not line.startswith(("#", "set ", "cd "))]
    assert commands == ["exec make test"]
