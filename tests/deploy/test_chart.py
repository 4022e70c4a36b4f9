"""The chart, as Go's template engine with Helm's functions renders it. Debian has both; no cluster is at hand."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from keys.product import VERSION

ROOT = Path(__file__).resolve().parent.parent.parent
CHART = ROOT / "deploy" / "helm" / "bursar"
LIBRARY = Path("/usr/share/gocode/src/github.com/Masterminds/sprig")

pytestmark = pytest.mark.image


@pytest.fixture(scope="module")
def engine(tmp_path_factory) -> Path:
    """The program that renders."""
    if not LIBRARY.exists():
        pytest.fail(
            "Go is missing: apt-get install golang-go golang-github-masterminds-sprig-dev golang-gopkg-yaml.v3-dev"
        )
    folder: Path = tmp_path_factory.mktemp("go")
    environment = os.environ | {"GO111MODULE": "off", "GOPATH": "/usr/share/gocode", "GOCACHE": str(folder / "cache")}
    command = ["go", "build", "-o", str(folder / "chart"), str(Path(__file__).with_name("chart.go"))]
    subprocess.run(command, env=environment, check=True)
    return folder / "chart"


def values(**changed: dict[str, Any]) -> dict[str, Any]:
    """The chart's values, with members of its sections changed."""
    made: dict[str, Any] = copy.deepcopy(yaml.safe_load((CHART / "values.yaml").read_text()))
    for section, members in {"image": {"tag": VERSION}, **changed}.items():
        made[section].update(members)
    return made


def render(engine: Path, given: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    seen = {"Values": given, "Release": {"Name": "bursar"}}
    return subprocess.run([engine, CHART], input=json.dumps(seen), capture_output=True, text=True, check=False)


def objects(engine: Path, given: dict[str, Any]) -> dict[tuple[str, str], dict[str, Any]]:
    done = render(engine, given)
    assert done.returncode == 0, done.stderr
    return {(each["kind"], each["metadata"]["name"]): each for each in yaml.safe_load_all(done.stdout) if each}


def test_each_role_is_a_deployment_with_a_read_only_root_and_no_rights(engine):
    made = objects(engine, values())
    roles = {name for kind, name in made if kind == "Deployment"}
    assert roles == {"bursar-api", "bursar-admin", "bursar-worker", "bursar-beat"}
    pods = [each["spec"]["template"]["spec"] for (kind, _), each in made.items() if kind in ("Deployment", "Job")]
    assert len(pods) == 5
    for pod in pods:
        (container,) = pod["containers"]
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"] == {
            "readOnlyRootFilesystem": True,
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
        }
        assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/var/lib/bursar", "/tmp"}
    assert made["Deployment", "bursar-beat"]["spec"]["replicas"] == 1
    assert made["Deployment", "bursar-beat"]["spec"]["strategy"] == {"type": "Recreate"}


def test_a_pod_has_more_time_than_its_process_takes_to_stop(engine):
    made = objects(engine, values() | {"drainNoticeSeconds": 30, "stopGraceSeconds": 300})
    settings = made["ConfigMap", "bursar-settings"]["data"]
    needed = int(settings["DRAIN_NOTICE"]) + int(settings["STOP_GRACE_SECONDS"])
    assert needed == 330
    deployments = [each for (kind, _), each in made.items() if kind == "Deployment"]
    assert deployments
    for each in deployments:
        assert each["spec"]["template"]["spec"]["terminationGracePeriodSeconds"] == needed + 20


def test_probes_ask_for_life_and_readiness_and_disruptions_are_bounded(engine):
    made = objects(engine, values())
    (container,) = made["Deployment", "bursar-api"]["spec"]["template"]["spec"]["containers"]
    assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
    assert container["readinessProbe"]["httpGet"]["path"] == "/health/ready"
    budget = made["PodDisruptionBudget", "bursar-api"]["spec"]
    assert budget["maxUnavailable"] == 1
    assert budget["selector"] == made["Deployment", "bursar-api"]["spec"]["selector"]
    service = made["Service", "bursar-api"]["spec"]
    assert service["selector"] == budget["selector"]["matchLabels"]


def test_open_calls_scale_the_calls_processes_and_nothing_else_sets_their_number(engine):
    made = objects(engine, values(api={"autoscaling": {**values()["api"]["autoscaling"], "enabled": True}}))
    (metric,) = made["HorizontalPodAutoscaler", "bursar-api"]["spec"]["metrics"]
    assert metric["external"]["metric"]["name"] == "gateway_open_holds"
    assert metric["external"]["target"] == {"type": "AverageValue", "averageValue": "200"}
    assert "replicas" not in made["Deployment", "bursar-api"]["spec"]
    assert ("HorizontalPodAutoscaler", "bursar-api") not in objects(engine, values())


def test_the_ingress_streams_and_knows_calls_from_pages(engine):
    made = objects(engine, values(ingress={"enabled": True, "host": "bursar.example", "tlsSecret": "tls"}))
    ingress = made["Ingress", "bursar"]
    assert ingress["metadata"]["annotations"]["nginx.ingress.kubernetes.io/proxy-buffering"] == "off"
    assert ingress["spec"]["tls"] == [{"secretName": "tls", "hosts": ["bursar.example"]}]
    paths = ingress["spec"]["rules"][0]["http"]["paths"]
    to = {each["path"]: each["backend"]["service"]["name"] for each in paths}
    assert to["/v1"] == "bursar-api"
    assert to["/admin"] == to["/"] == to["/v1/organizations/analytics"] == "bursar-admin"
    # Figures of the deployment and its health are for its own network.
    assert not {"/metrics", "/health"} & set(to)


def test_a_chart_without_a_version_or_a_secret_is_refused(engine):
    for given, named in (
        (values(image={"tag": ""}), "image.tag"),
        (values() | {"existingSecret": ""}, "existingSecret"),
    ):
        done = render(engine, given)
        assert done.returncode == 1
        assert named in done.stderr


def test_migrations_run_before_new_processes_with_their_settings(engine):
    made = objects(engine, values())
    job, settings = made["Job", "bursar-migrations"], made["ConfigMap", "bursar-settings"]
    for each in (job, settings):
        assert each["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    weights = [int(each["metadata"]["annotations"]["helm.sh/hook-weight"]) for each in (settings, job)]
    assert weights[0] < weights[1]
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["command"][1:] == ["manage.py", "migrate"]
