"""The chart as it is: every topology and combination, by both majors of Helm, against three versions of Kubernetes."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.chart import check, findings, lint_all, named_in
from cluster.combinations import COMBINATIONS
from cluster.helm import CHART, Helm, Values
from cluster.schemas import versions
from cluster.workloads import of_kind, variables, workloads
from winnow.errors import InvalidArgument

KINDS = ("Deployment", "Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceAccount", "ServiceMonitor")
SERVICES = {"gateway", "feature", "retrieval", "ranking", "explanation"}
NEW = {
    "module": "services.ranking",
    "image": {"repository": "winnow-ranking"},
    "listens": {"pricing": 50055},
    "replicas": 1,
    "resources": {"requests": {"cpu": "1", "memory": "1Gi"}, "limits": {"cpu": "1", "memory": "1Gi"}},
    "autoscaling": {"enabled": True, "min": 1, "max": 2, "cpuPercent": 70},
}


def test_helm_lints_every_topology_strictly() -> None:
    assert {name: refusal for name, refusal in lint_all() if refusal} == {}


def test_three_versions_of_kubernetes_are_held_against_it() -> None:
    oldest, middle, newest = versions()
    assert (oldest, middle) == ("1.29", "1.32")
    assert tuple(map(int, newest.split("."))) > (1, 32)


@pytest.mark.parametrize("name", COMBINATIONS)
def test_nothing_is_wrong_with_a_combination(name: str) -> None:
    assert [str(one) for one in check(COMBINATIONS[name])] == []


def test_every_values_file_is_a_combination() -> None:
    told = {file for values in COMBINATIONS.values() for file in values.files}
    assert told == {path.name for path in CHART.glob("values-*.yaml")}


def test_a_new_service_is_one_entry() -> None:
    objects = Helm().render(Values(single={"services.pricing": NEW, "monitoring.enabled": True}))
    made = {one["kind"] for one in objects if one["metadata"]["name"] == "winnow-pricing"}
    assert made == {*KINDS, "HorizontalPodAutoscaler"}


def test_high_availability_is_what_it_says() -> None:
    objects = {(one["kind"], one["metadata"]["name"]): one for one in Helm().render(COMBINATIONS["ha"])}
    gateway = objects["Deployment", "winnow-gateway"]["spec"]["template"]["spec"]
    zones = [one for one in gateway["topologySpreadConstraints"] if one["topologyKey"].endswith("/zone")]
    assert [one["whenUnsatisfiable"] for one in zones] == ["DoNotSchedule"]
    assert objects["HorizontalPodAutoscaler", "winnow-gateway"]["spec"]["minReplicas"] >= 3
    assert objects["HorizontalPodAutoscaler", "winnow-retrieval"]["spec"]["minReplicas"] >= 3
    assert objects["StatefulSet", "winnow-kafka"]["spec"]["replicas"] == 3
    assert objects["StatefulSet", "winnow-redis-nodes"]["spec"]["replicas"] == 3
    assert objects["Deployment", "winnow-feature"]["spec"]["replicas"] == 1, "one writer"


def test_a_gpu_is_asked_for_where_there_is_one() -> None:
    for name, gpus in (("gpu", 1), ("Triton on CPUs", None)):
        [triton] = [work for work in workloads(Helm().render(COMBINATIONS[name])) if work.component == "triton"]
        assert triton.containers[0]["resources"]["limits"].get("nvidia.com/gpu") == gpus


def test_a_laptop_needs_one_process_and_no_other_part() -> None:
    objects = Helm().render(COMBINATIONS["laptop"])
    assert [one["metadata"]["name"] for one in of_kind(objects, "Deployment", "StatefulSet")] == ["winnow-all"]


def test_the_log_of_events_outlives_the_release() -> None:
    [home] = [one for one in Helm().render() if one["metadata"]["name"] == "winnow-home"]
    assert home["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"


def test_an_installation_trains_once_and_an_upgrade_does_not() -> None:
    values = COMBINATIONS["start with data"]
    jobs = [
        {one["metadata"]["name"] for one in of_kind(Helm().render(values, upgrade=u), "Job")} for u in (False, True)
    ]
    assert jobs[0] - jobs[1] == {"winnow-jobs-start"}


def containers(values: Values) -> dict[str, Any]:
    """The first container of every Deployment, by component."""
    return {work.component: work.containers[-1] for work in workloads(of_kind(Helm().render(values), "Deployment"))}


def told(container: Any) -> dict[str, str]:
    return {name: str(one.get("value", "")) for name, one in variables(container).items()}


def test_every_service_drains_before_it_ends() -> None:
    found = {name: told(one) for name, one in containers(COMBINATIONS["default"]).items()}
    drains = {name: env["WINNOW_DRAIN_S"] for name, env in found.items() if "WINNOW_HOME" in env}
    assert drains == dict.fromkeys(("gateway", "feature", "retrieval", "ranking", "explanation"), "5")


def test_the_two_switches_of_tls_are_two() -> None:
    inner, face = containers(COMBINATIONS["mTLS"]), containers(COMBINATIONS["TLS at the gateway"])
    assert {name for name, one in inner.items() if "WINNOW_TLS_FOLDER" in told(one)} == SERVICES
    assert {name for name, one in inner.items() if "WINNOW_FACE_TLS_FOLDER" in told(one)} == set()
    assert {name for name, one in face.items() if "WINNOW_FACE_TLS_FOLDER" in told(one)} == {"gateway"}
    assert {name for name, one in face.items() if "WINNOW_TLS_FOLDER" in told(one)} == set()
    for found, probed in ((inner, SERVICES), (face, {"gateway"})):
        for name in SERVICES:
            ports = {found[name][probe]["grpc"]["port"] for probe in ("livenessProbe", "readinessProbe")}
            assert (ports == {50059}) == (name in probed)


def test_all_who_record_have_the_same_keys_and_gateways_a_folder_outside_the_pod() -> None:
    objects = Helm().render(COMBINATIONS["audit, signed"])
    keys = {
        work.component: told(work.containers[-1])["WINNOW_AUDIT_KEY_FILE"]
        for work in workloads(objects)
        if "WINNOW_AUDIT_KEY_FILE" in told(work.containers[-1])
    }
    assert keys == dict.fromkeys(("gateway", "jobs"), "/var/lib/winnow/audit-keys/audit.key")
    for name, source in (("audit, signed", "ephemeral"), ("audit on one volume", "persistentVolumeClaim")):
        [gateway] = [work for work in workloads(Helm().render(COMBINATIONS[name])) if work.component == "gateway"]
        assert [volume.keys() - {"name"} for volume in gateway.spec["volumes"] if volume["name"] == "audit"] == [
            {source}
        ]


@pytest.mark.parametrize("base", ["", "https://git.example.org/shop/docs/runbooks.md"])
def test_runbooks_are_where_it_is_said(base: str) -> None:
    values = Values(single={"monitoring.enabled": True, "alerts.runbookBase": base})
    rules = [one["spec"]["groups"] for one in of_kind(Helm().render(values), "PrometheusRule")]
    urls = [r["annotations"]["runbook_url"] for groups in rules for g in groups for r in g["rules"] if "alert" in r]
    assert len(urls) > 20
    assert {url.partition("#")[0] for url in urls} == {base or "docs/runbooks.md"}


def test_what_is_external_is_not_bundled() -> None:
    values = COMBINATIONS["external parts"]
    objects = Helm().render(values)
    parts = {"redis", "kafka", "mlflow", "postgres", "objects", "triton"}
    assert not parts & {work.component for work in workloads(objects)}
    assert findings(objects, named_in(values)) == []


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"gatewai.replicas": 3}, "gatewai"),
    ({"redis.replicass": 3}, "replicass"),
    ({"services.gateway.replicas": "three"}, "services.gateway.replicas"),
    ({"services.gateway.portt": 1}, "portt"),
    ({"services.gateway.resources.limits.memory": "2GB"}, "memory"),
    ({"services.gateway.env": {"WINNOW_CANDIDATES": 500}}, "WINNOW_CANDIDATES"),
    ({"services.feature.replicas": 2}, "services.feature: it writes the log"),
    ({"services.retrieval": {"home": "kept", "autoscaling": None}}, "exactly one must say"),
    ({"services.gateway.calls": ["features"]}, "there is no service features"),
    ({"redis.external": "redis://:hunter2@redis:6379/0"}, "redis.external"),
    ({"redis.replicas": 2}, "redis.replicas"),
    ({"kafka.copies": 3}, "kafka.copies"),
    ({"kafka.external": "kafka"}, "kafka.external"),
    ({"kafka.enabled": False}, "stream.enabled"),
    ({"mlflow.enabled": False}, "mlflow.enabled"),
    ({"images.tag": "latest"}, "images.tag"),
    ({"home.accessMode": "ReadWriteSometimes"}, "home.accessMode"),
    ({"security.user": 0}, "security.user"),
    ({"triton.enabled": True, "triton.tensorrt": True}, "triton.tensorrt"),
    ({"triton.enabled": True, "triton.repository.accessMode": "ReadWriteOnce"}, "triton.repository.accessMode"),
    ({"training.enabled": True}, "training.nodes"),
    ({"auth.enabled": True}, "auth.enabled"),
    ({"auth.enabled": True, "auth.jwksUrl": "https://issuer.example.org"}, "auth.issuer"),
    ({"services.gateway.graceSeconds": 10}, "services.gateway.graceSeconds"),
    ({"alerts.runbookBase": "docs"}, "alerts.runbookBase"),
    ({"secrets.generate": False}, "secrets.name"),
    ({"schedules.refresh.schedule": "often"}, "schedules.refresh.schedule"),
]


@pytest.mark.parametrize(("values", "named"), REFUSED, ids=[" ".join(values) for values, _ in REFUSED])
def test_what_is_wrong_is_refused_by_name(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Helm().render(Values(single=values))
    assert named in refused.value.detail.replace("'", "").replace("/", ".")
