"""Dockerfile, compose.yaml, manifests and units: right by their linters, and true to what they start."""

import inspect
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from lms import __version__, passwords
from lms.embedded import TRANSACTION_SECONDS
from lms.keys import new_secrets
from lms.settings import Settings, load_settings
from tests.deploy.files import (
    COMPOSE,
    DEPLOY,
    MANIFESTS,
    OURS,
    ROOT,
    UNITS,
    Run,
    env_file,
    manifests,
    pods,
    runs,
    services,
    stages,
    understood,
    unit,
)

BIN = Path(sys.executable).parent
GRACE_SECONDS = Settings.model_fields["grace_seconds"].default
MARGIN_SECONDS = 5
"""What a process may take to stop beyond its grace."""

SETTINGS = {f"LMS_{name.upper()}{end}" for name in Settings.model_fields for end in ("", "_FILE")}
SECRETS = {f"LMS_{name.upper()}": value for name, value in new_secrets().items()}
RUNS = list(runs())


def check(*command: str | Path, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_dockerfile_passes_its_linter() -> None:
    check(BIN / "hadolint", ROOT / "Dockerfile")


def test_compose_is_as_its_specification_says() -> None:
    check(BIN / "check-jsonschema", "--builtin-schema", "vendor.compose-spec", COMPOSE)


@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_manifests_are_as_kubernetes_wants_them(version: str) -> None:
    check(BIN / "kubernetes-validate", "--strict", "--quiet", "-k", version, *MANIFESTS)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is missing: install systemd")
def test_units_are_as_systemd_wants_them(tmp_path: Path) -> None:
    """What they start is not where it will be, so this checkout's stands for it."""
    units = [*UNITS, DEPLOY / "systemd" / "lms.target"]
    for one in units:
        (tmp_path / one.name).write_text(one.read_text().replace("/opt/lms/bin/lms", str(BIN / "lms")))
    names = [one.name for one in units]
    check("systemd-analyze", "verify", "--recursive-errors=no", *(f"./{name}" for name in names), cwd=tmp_path)
    for name in names[:-1]:
        # 0 is a service that can do nothing, 100 one that can do everything.
        check("systemd-analyze", "security", "--offline=true", "--threshold=15", f"./{name}", cwd=tmp_path)


@pytest.mark.parametrize("run", RUNS, ids=[run.where for run in RUNS])
def test_what_is_started_exists_with_its_options(run: Run) -> None:
    understood(run.arguments)


def test_the_api_may_let_its_password_threads_give_way() -> None:
    """A system call that a unit does not allow ends the process."""
    assert "setpriority" in inspect.getsource(passwords)
    filters = unit(DEPLOY / "systemd" / "lms-api.service")["Service"]["SystemCallFilter"]
    assert filters.index("setpriority") > filters.index("~@privileged @resources")


@pytest.mark.parametrize("path", [ROOT / "Dockerfile", COMPOSE, *MANIFESTS, *(DEPLOY / "systemd").iterdir()], ids=str)
def test_every_setting_that_is_named_exists(path: Path) -> None:
    named = set(re.findall(r"\bLMS_\w+", path.read_text()))
    assert named - SETTINGS - {"LMS_"} == set()


@pytest.mark.parametrize("name", OURS)
def test_settings_of_compose_are_those_of_a_production(name: str) -> None:
    service = services()[name]
    assert service["env_file"] == ".env"
    settings = production(service["environment"], LMS_PUBLIC_URL="https://school.example", **SECRETS)
    assert settings.mongodb_url == "mongodb://mongodb/?replicaSet=rs0"


def test_settings_of_kubernetes_are_those_of_a_production() -> None:
    [config] = [one["data"] for one in manifests() if one["kind"] == "ConfigMap"]
    [secret] = [one["stringData"] for one in manifests() if one["kind"] == "Secret"]
    production(config | secret, **SECRETS)
    assert {name for name, value in secret.items() if not value} >= set(SECRETS)


@pytest.mark.parametrize("path", UNITS, ids=lambda path: path.name)
def test_settings_of_systemd_are_those_of_a_production(path: Path, tmp_path: Path) -> None:
    service = unit(path)["Service"]
    given = dict(one.split("=", 1) for line in service["Environment"] for one in line.split())
    for name in (one.partition(":")[0] for one in service["LoadCredential"]):
        (tmp_path / name).write_text(SECRETS[f"LMS_{name.upper()}"])
    environ = {name: value.replace("%d", str(tmp_path)) for name, value in given.items()}
    settings = production(environ | env_file(DEPLOY / "systemd" / "lms.env"))
    assert settings.secret_key.get_secret_value() == SECRETS["LMS_SECRET_KEY"]


def production(environ: Mapping[str, str], **more: str) -> Settings:
    settings = load_settings({name: value for name, value in environ.items() if name.startswith("LMS_")} | more)
    assert settings.environment == "production"
    return settings


@pytest.mark.parametrize("name", OURS[1:])
def test_who_stops_a_process_waits_until_it_has_finished(name: str) -> None:
    pod = pods()[name]
    pause = pod["containers"][0].get("lifecycle", {}).get("preStop", {}).get("sleep", {}).get("seconds", 0)
    [unit_seconds] = unit(DEPLOY / "systemd" / f"lms-{name}.service")["Service"]["TimeoutStopSec"]
    needed = GRACE_SECONDS + MARGIN_SECONDS
    assert int(services()[name]["stop_grace_period"].removesuffix("s")) >= needed
    assert pod["terminationGracePeriodSeconds"] >= needed + pause
    assert int(unit_seconds) >= needed


def test_the_api_is_left_time_to_be_left_alone() -> None:
    assert pods()["api"]["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"] >= MARGIN_SECONDS


@pytest.mark.parametrize("name", OURS[1:])
def test_probes_ask_where_the_process_answers(name: str) -> None:
    [container] = pods()[name]["containers"]
    options = understood(container["args"])
    host, port = (options[one] for one in (("host", "port") if name == "api" else ("health_host", "health_port")))
    assert host == "0.0.0.0"  # noqa: S104 - a kubelet asks the pod's address
    [shown] = container["ports"]
    assert shown["containerPort"] == port
    asked = {kind: container[f"{kind}Probe"]["httpGet"] for kind in ("startup", "liveness", "readiness")}
    assert {one["port"] for one in asked.values()} == {shown["name"]}
    # A restart mends no database that is away.
    paths = {kind: one["path"].removeprefix("/health/") for kind, one in asked.items()}
    assert paths == {"startup": "live", "liveness": "live", "readiness": "ready"}


@pytest.mark.parametrize("name", OURS[1:])
def test_health_checks_of_containers_ask_where_the_process_answers(name: str) -> None:
    service = services()[name]
    options = understood(service["command"])
    assert options["port" if name == "api" else "health_port"] == understood(service["healthcheck"]["test"][2:])["port"]


@pytest.mark.parametrize("name", OURS)
def test_containers_may_do_nothing_that_they_need_not(name: str) -> None:
    service, pod = services()[name], pods()[name]
    assert (service["read_only"], service["cap_drop"], service["tmpfs"]) == (True, ["ALL"], ["/tmp"])  # noqa: S108
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert re.fullmatch(r"\d+[mg]", service["mem_limit"])
    [container] = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["runAsUser"] == image_user()
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert container["resources"]["limits"]["memory"]


@pytest.mark.parametrize("name", services())
def test_nothing_is_open_to_the_network_by_itself(name: str) -> None:
    assert all(str(port).startswith("127.0.0.1:") for port in services()[name].get("ports", []))
    assert services()[name]["cap_drop"] == ["ALL"]


def test_what_waits_for_the_databases_and_the_migration_does() -> None:
    waits = {name: {key: one["condition"] for key, one in services()[name]["depends_on"].items()} for name in OURS}
    ready = {"migrate": "service_completed_successfully", "mongodb": "service_healthy", "valkey": "service_healthy"}
    assert waits == {"migrate": {"mongodb": "service_healthy"}, "api": ready, "worker": ready, "scheduler": ready}


def test_the_profile_ha_has_three_nodes_of_one_replica_set() -> None:
    nodes = {name: one for name, one in services().items() if one.get("command", [""])[0] == "mongod"}
    assert set(nodes) == {"mongodb", "mongodb-2", "mongodb-3"}
    assert {name for name, one in services().items() if one.get("profiles") == ["ha"]} == set(nodes) - {"mongodb"} | {
        "mongodb-members"
    }
    for one in nodes.values():
        assert one["command"][1:3] == ["--replSet", "rs0"]
        assert f"transactionLifetimeLimitSeconds={TRANSACTION_SECONDS}" in one["command"]
    script = services()["mongodb-members"]["command"][-1]
    assert set(re.findall(r'"([\w-]+):27017"', script)) == set(nodes) - {"mongodb"}


def test_every_volume_and_network_is_declared() -> None:
    whole = yaml.safe_load(COMPOSE.read_text())
    named = {one.partition(":")[0] for service in services().values() for one in service.get("volumes", [])}
    assert {name for name in named if not name.startswith(".")} == set(whole["volumes"])
    assert {name for service in services().values() for name in service["networks"]} == set(whole["networks"])
    assert whole["networks"]["data"] == {"internal": True}


def test_selectors_find_their_pods() -> None:
    labels = [one["spec"]["template"]["metadata"]["labels"] for one in manifests() if "template" in one.get("spec", {})]
    for one in manifests():
        selector: dict[str, Any] = one.get("spec", {}).get("selector", {})
        if selector:
            assert selector.get("matchLabels", selector) in labels


def test_the_manifests_are_of_this_version() -> None:
    images = {container["image"] for pod in pods().values() for container in pod["containers"]}
    assert images == {f"registry.example/lms:{__version__}"}


def image_user() -> int:
    return int(dict(stages()[-1])["USER"].partition(":")[0])


def test_the_image_is_nobody_and_stops_and_starts_as_we_do() -> None:
    image = dict(stages()[-1])
    assert image_user() > 0
    assert (image["ENTRYPOINT"], image["STOPSIGNAL"]) == ('["lms"]', "SIGTERM")
    assert image["COPY"] == "--from=build /opt/lms /opt/lms"


def test_what_the_image_is_made_of_is_sent_to_its_build() -> None:
    sent = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = {part for name, rest in stages()[0] if name == "COPY" for part in rest.split()[:-1]}
    assert sent == copied


def test_units_start_in_order_and_only_wrong_settings_keep_them_down() -> None:
    [wanted] = unit(DEPLOY / "systemd" / "lms.target")["Unit"]["Wants"]
    assert set(wanted.split()) == {f"lms-{name}.service" for name in OURS[1:]}
    for path in UNITS:
        one = unit(path)
        assert one["Unit"]["PartOf"] == ["lms.target"]
        assert one["Service"]["RestartPreventExitStatus"] == ["2"]
        if path.name != "lms-migrate.service":
            assert "lms-migrate.service" in one["Unit"]["After"][0].split()
            assert "lms-migrate.service" in one["Unit"]["Wants"][0].split()
