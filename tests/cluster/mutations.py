"""Faults that are planted in a copy of the chart, and the words that must name each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster.combinations import PASSWORD


@dataclass(frozen=True)
class Mutation:
    """`old` becomes `new` in one file of the chart, wherever it stands there first."""

    file: str
    old: str
    new: str
    told: tuple[str, ...]
    values: Mapping[str, Any] = field(default_factory=dict)

    def plant(self, chart: Path) -> None:
        path = chart / self.file
        text = path.read_text("utf-8")
        assert self.old in text, f"{self.file} no longer holds {self.old!r}: plant the fault elsewhere"
        path.write_text(text.replace(self.old, self.new, 1), "utf-8")


DEPLOYMENT = "templates/deployment.yaml"
ENVIRONMENT = "templates/_environment.tpl"
POD = "templates/_pod.tpl"
POLICY = "templates/networkpolicy.yaml"

MUTATIONS: Mapping[str, Mutation] = {
    "a service listens on another port than its container opens": Mutation(
        ENVIRONMENT,
        'value: "0.0.0.0:{{ $port }}"',
        'value: "0.0.0.0:{{ add $port 1 }}"',
        ("Deployment/winnow-ranking", "WINNOW_RANKING_ADDRESS listens on 50054, which the container does not open"),
    ),
    "a service calls a port that is not there": Mutation(
        ENVIRONMENT,
        '{{ get (get (get $services .) "listens") . }}',
        "50099",
        ("Deployment/winnow-gateway", "WINNOW_FEATURE_ADDRESS: Service winnow-feature has no port 50099"),
    ),
    "a Service leads to a port that no pod opens": Mutation(
        "templates/service.yaml",
        "targetPort: {{ $port }}",
        "targetPort: 1{{ $number }}",
        ("Service/winnow-gateway", "port rest leads to 18080, which Deployment/winnow-gateway does not open"),
    ),
    "a Deployment does not select its own pods": Mutation(
        DEPLOYMENT,
        'labels: {{ include "winnow.labels" $id | nindent 8 }}',
        'labels: {{ include "winnow.labels" (dict "root" $ "name" "somebody") | nindent 8 }}',
        ("Deployment/winnow-feature", "it does not select the pods that its template makes"),
    ),
    "a Service has no pods": Mutation(
        "templates/service.yaml",
        'selector: {{ include "winnow.selector" $id | nindent 4 }}',
        "selector: {app: winnow}",
        ("Service/winnow-retrieval", "no pod is behind it"),
    ),
    "a container without limits": Mutation(
        DEPLOYMENT,
        "          {{- end }}\n          resources: {{ toYaml $one.resources",
        '          {{- end }}\n          resources: {{ toYaml (omit $one.resources "limits")',
        ("Deployment/winnow-explanation", "no limits of memory"),
    ),
    "a pod that may be root": Mutation(
        POD, "runAsNonRoot: true", "runAsNonRoot: false", ("Deployment/winnow-gateway", "the pod may run as root")
    ),
    "a root file system that can be written": Mutation(
        POD,
        "readOnlyRootFilesystem: true",
        "readOnlyRootFilesystem: false",
        ("CronJob/winnow-jobs-retrain", "its root file system can be written"),
    ),
    "a container with more rights": Mutation(
        POD, "drop: [ALL]", "drop: [NET_RAW]", ("StatefulSet/winnow-kafka", "it keeps capabilities")
    ),
    "a folder of the node": Mutation(
        DEPLOYMENT,
        "{name: tmp, emptyDir: {sizeLimit: 1Gi}}",
        "{name: tmp, hostPath: {path: /tmp}}",
        ("Deployment/winnow-ranking", "volume tmp is a folder of the node"),
    ),
    "a scratch folder without a limit": Mutation(
        DEPLOYMENT, "emptyDir: {sizeLimit: 1Gi}", "emptyDir: {}", ("Deployment/winnow-ranking", "tmp has no sizeLimit")
    ),
    "a variable that no service knows": Mutation(
        ENVIRONMENT,
        "WINNOW_KAFKA_REPLICAS",
        "WINNOW_KAFKA_COPIES",
        ("Deployment/winnow-feature", "WINNOW_KAFKA_COPIES is no setting of services.feature.settings"),
    ),
    "a part that a service is not led to": Mutation(
        "values.yaml",
        "uses: [redis, mlflow, triton]",
        "uses: [mlflow, triton]",
        ("Deployment/winnow-ranking", "WINNOW_REDIS_URL is not set"),
    ),
    "a value that the service refuses": Mutation(
        ENVIRONMENT,
        "WINNOW_KAFKA_REPLICAS, value: {{ .Values.kafka.copies | quote }}",
        'WINNOW_KAFKA_REPLICAS, value: "0"',
        ("Deployment/winnow-gateway", "WINNOW_KAFKA_REPLICAS: Input should be greater than or equal to 1"),
    ),
    "a variable that is used before it is set": Mutation(
        ENVIRONMENT,
        "redis://:$(REDIS_PASSWORD)@",
        "redis://:$(REDIS_PASSWD)@",
        ("Deployment/winnow-stream", "WINNOW_REDIS_URL uses $(REDIS_PASSWD) before it is set"),
    ),
    "a secret by value": Mutation(
        "templates/postgres.yaml",
        "- {name: POSTGRES_DB, value: mlflow}",
        "- {name: POSTGRES_DB, value: mlflow}\n            - {name: PGPASSWORD, value: hunter2}",
        ("StatefulSet/winnow-postgres", "PGPASSWORD holds a secret by value"),
    ),
    "a password in an address": Mutation(
        ENVIRONMENT,
        "postgresql://winnow:$(POSTGRES_PASSWORD)@",
        "postgresql://winnow:hunter2@",
        ("Deployment/winnow-mlflow", "MLFLOW_BACKEND_STORE_URI holds a secret by value"),
    ),
    "a Secret with values": Mutation(
        "templates/home.yaml",
        "apiVersion: v1",
        "apiVersion: v1\nkind: Secret\nmetadata: {name: mine}\nstringData: {a: b}\n---\napiVersion: v1",
        ("Secret/mine", "a Secret with values is part of the release"),
    ),
    "an image that is not pinned": Mutation(
        "templates/_names.tpl",
        "default .root.Chart.AppVersion)",
        'default "latest" | replace "0.1.0" "latest")',
        ("Deployment/winnow-gateway", "winnow-gateway:latest' is not pinned"),
    ),
    "a value of another type": Mutation(
        DEPLOYMENT,
        "revisionHistoryLimit: 5",
        "revisionHistoryLimit: five",
        ("spec.revisionHistoryLimit", "'five' is not"),
    ),
    "a field that Kubernetes does not know": Mutation(
        DEPLOYMENT,
        "          command: [python, -m, {{ $one.module",
        "          commands: []\n          command: [python, -m, {{ $one.module",
        ("Deployment/winnow-feature", "1.29", "'commands' was unexpected"),
    ),
    "a kind that is gone": Mutation(
        "templates/pdb.yaml", "policy/v1", "policy/v1beta1", ("Kubernetes 1.37", "no such kind: policy/v1beta1")
    ),
    "an unknown field of a custom resource": Mutation(
        "templates/servicemonitor.yaml",
        "interval: {{",
        "every: {{",
        ("ServiceMonitor/winnow-feature", "'every' was unexpected"),
        {"monitoring.enabled": True},
    ),
    "a quantity that is none": Mutation(
        "templates/hooks.yaml", "memory: 128Mi", "memory: 128MiB", ("Job/winnow-topics", "'128MiB' is no quantity")
    ),
    "a key that stands twice": Mutation(
        "templates/home.yaml", "  annotations:", "  labels: {a: b}\n  annotations:", ("labels stands twice in one map",)
    ),
    "a probe of another port": Mutation(
        DEPLOYMENT,
        "readinessProbe:\n            grpc: {port: {{ $port }}}",
        "readinessProbe:\n            grpc: {port: 50060}",
        ("Deployment/winnow-retrieval", "readinessProbe asks port 50060, which the container does not open"),
    ),
    "a service without a probe": Mutation(
        "templates/stream.yaml",
        "          livenessProbe: {httpGet: {path: /metrics, port: metrics}, periodSeconds: 15, timeoutSeconds: 5, failureThreshold: 6}\n",
        "",
        ("Deployment/winnow-stream", "no livenessProbe"),
    ),
    "a policy that lets everybody in": Mutation(
        POLICY,
        "    - from:\n        {{- range . }}",
        "    - from:\n        - podSelector: {}\n        {{- range . }}",
        ("NetworkPolicy/feature", "anybody may reach feature:50051"),
    ),
    "a policy that shuts a caller off": Mutation(
        "values.yaml",
        "    calls: [feature]\n    uses: [mlflow]",
        "    uses: [mlflow]",
        ("explanation cannot reach feature:50051, which it calls",),
    ),
    "an autoscaler of nothing": Mutation(
        "templates/hpa.yaml",
        'name: {{ include "winnow.name" $ }}-{{ $name }}}',
        "name: {{ $name }}}",
        ("HorizontalPodAutoscaler/winnow-gateway", "nothing to scale: Deployment/gateway"),
    ),
    "a monitor of a port that is not there": Mutation(
        "templates/servicemonitor.yaml",
        "- port: {{ .port }}",
        "- port: prometheus",
        ("ServiceMonitor/winnow-gateway", "Service/winnow-gateway has no port prometheus"),
        {"monitoring.enabled": True},
    ),
    "a budget of nobody": Mutation(
        "templates/pdb.yaml",
        'matchLabels: {{ include "winnow.selector" $id | nindent 6 }}',
        "matchLabels: {app: winnow}",
        ("PodDisruptionBudget/winnow-gateway", "it selects no pod"),
    ),
    "two writers of the log": Mutation(
        DEPLOYMENT,
        "type: Recreate",
        "type: RollingUpdate",
        ("Deployment/winnow-feature", "two of its pods may write one volume"),
    ),
    "no time to drain": Mutation(
        DEPLOYMENT,
        "{{ add $one.drainSeconds $one.graceSeconds }}",
        "{{ $one.drainSeconds }}",
        ("Deployment/winnow-gateway", "5 s are too short to drain"),
    ),
    "a draining that is put off": Mutation(
        DEPLOYMENT,
        "          {{- end }}\n          resources: {{ toYaml $one.resources",
        "          {{- end }}\n          lifecycle: {preStop: {sleep: {seconds: 5}}}\n"
        "          resources: {{ toYaml $one.resources",
        ("Deployment/winnow-ranking", "preStop only delays the draining"),
    ),
    "a probe of a port that speaks TLS": Mutation(
        DEPLOYMENT,
        "ternary 50059 $number $one.probed",
        "ternary 50059 $number $.Values.tls.enabled",
        ("Deployment/winnow-gateway", "livenessProbe asks port 50050, where TLS is spoken"),
        {"tls.face.secret": "face-cert"},
    ),
    "a monitor of a port that wants a credential": Mutation(
        "templates/servicemonitor.yaml",
        "- port: {{ .port }}",
        '- port: {{ ternary "rest" .port (eq $name "gateway") }}',
        (
            "ServiceMonitor/winnow-gateway",
            "rest of Deployment/winnow-gateway is not where it shows metrics without a credential (0.0.0.0:9100)",
        ),
        {"monitoring.enabled": True, "auth.enabled": True, "auth.apiKeys.secret": "shop-keys"},
    ),
    "metrics for every caller": Mutation(
        POLICY,
        'omit $one.ports "metrics" }}\n        - {protocol: TCP, port: {{ $number }}}\n        {{- end }}\n      {{- with',
        "$one.ports }}\n        - {protocol: TCP, port: {{ $number }}}\n        {{- end }}\n      {{- with",
        ("NetworkPolicy/gateway", "anybody may reach gateway:9100"),
    ),
    "metrics that Prometheus cannot reach": Mutation(
        POLICY,
        "get $one.ports $one.metrics.port }}",
        "get $one.ports $one.metrics.port | add 1 }}",
        ("Deployment/winnow-gateway", "the monitoring cannot reach port 9100"),
        {"monitoring.enabled": True},
    ),
    "metrics that nobody listens for": Mutation(
        DEPLOYMENT,
        "            - {name: metrics, containerPort: 9100}\n",
        "",
        ("Deployment/winnow-gateway", "WINNOW_METRICS_ADDRESS listens on 9100, which the container does not open"),
    ),
    "a Secret that never changes": Mutation(
        DEPLOYMENT,
        "mountPath: /var/lib/winnow/face-tls, readOnly: true",
        "mountPath: /var/lib/winnow/face-tls/tls.crt, subPath: tls.crt, readOnly: true",
        (
            "Deployment/winnow-gateway",
            "mounts face-tls by subPath",
            "WINNOW_FACE_TLS_FOLDER is /var/lib/winnow/face-tls",
        ),
        {"tls.face.secret": "face-cert"},
    ),
    "API keys that cannot be revoked": Mutation(
        ENVIRONMENT,
        "- {name: WINNOW_API_KEYS_FILE, value: /var/lib/winnow/api-keys/{{ .key }}}",
        "- {name: WINNOW_API_KEYS, valueFrom: {secretKeyRef: {name: {{ .secret }}, key: {{ .key }}}}}",
        ("Deployment/winnow-gateway", "WINNOW_API_KEYS never changes in a pod: mount the Secret"),
        {"auth.enabled": True, "auth.apiKeys.secret": "shop-keys"},
    ),
    "API keys that are not mounted": Mutation(
        DEPLOYMENT,
        "            - {name: api-keys, mountPath: /var/lib/winnow/api-keys, readOnly: true}\n",
        "",
        (
            "Deployment/winnow-gateway",
            "WINNOW_API_KEYS_FILE is /var/lib/winnow/api-keys/api-keys, which is in no volume",
        ),
        {"auth.enabled": True, "auth.apiKeys.secret": "shop-keys"},
    ),
    "rules that are not mounted": Mutation(
        DEPLOYMENT,
        "            - {name: rules, mountPath: /var/lib/winnow/rules, readOnly: true}\n",
        "",
        ("Deployment/winnow-gateway", "WINNOW_RULES_FILE is /var/lib/winnow/rules/rules.json, which is in no volume"),
        {"rules.configMap": "shop-rules"},
    ),
    "records that go with the container": Mutation(
        DEPLOYMENT,
        "            - {name: audit, mountPath: /var/lib/winnow/audit}\n",
        "",
        ("Deployment/winnow-gateway", "WINNOW_AUDIT_FOLDER is /var/lib/winnow/audit, which is in no volume"),
    ),
    "a job whose records are not signed": Mutation(
        "templates/_work.tpl",
        '          {{- include "winnow.auditKeysMount" .root | nindent 10 }}\n',
        "",
        (
            "CronJob/winnow-jobs-retrain",
            "WINNOW_AUDIT_KEY_FILE is /var/lib/winnow/audit-keys/audit.key, which is in no",
        ),
        {"audit.existingSecret": "audit-keys"},
    ),
    "a stream that is not told how brokers are spoken to": Mutation(
        "templates/stream.yaml",
        '            {{- include "winnow.shared" (dict "root" .) | nindent 12 }}\n',
        "",
        ("Deployment/winnow-stream", "stream: WINNOW_KAFKA_PASSWORD is not set, and others are told"),
        PASSWORD,
    ),
    "a hook that is not told where traces go": Mutation(
        "templates/hooks.yaml",
        '            {{- include "winnow.shared" (dict "root" .) | nindent 12 }}\n',
        "",
        ("Job/winnow-topics", "topics: WINNOW_OTLP_ENDPOINT is not set, and others are told"),
        {"tracing.endpoint": "http://collector.tracing:4317"},
    ),
    "a stream whose traces cannot leave": Mutation(
        "templates/_components.tpl",
        '(list "kafka" "redis") "told" true',
        '(list "kafka" "redis")',
        ("Deployment/winnow-stream", "stream cannot reach collector.tracing:4317, which it is told"),
        {"tracing.endpoint": "http://collector.tracing:4317"},
    ),
    "a job whose records do not reach the topic": Mutation(
        "templates/_components.tpl",
        'list "mlflow" "kafka" }}',
        'list "mlflow" }}',
        ("CronJob/winnow-jobs-retrain", "work cannot reach kafka-0.example.org:9096, which it is told"),
        PASSWORD,
    ),
    "a job that is led to no broker": Mutation(
        ENVIRONMENT,
        '{{- if .Values.kafka.enabled }}{{/* what they record is copied there */}}\n{{- include "winnow.brokers" . }}\n{{- end }}\n',
        "",
        ("CronJob/winnow-jobs-retrain", "work: WINNOW_KAFKA_BOOTSTRAP is not set"),
    ),
    "a job that cannot reach the bundled brokers": Mutation(
        "templates/_components.tpl",
        'list "mlflow" "kafka" }}',
        'list "mlflow" }}',
        ("jobs cannot reach kafka:9092, which it calls",),
    ),
    "a password without a user": Mutation(
        "templates/_environment.tpl",
        "(deepCopy .root.Values.env)",
        '(omit .root.Values.env "WINNOW_KAFKA_USER")',
        ("Job/winnow-topics", "SASL_SSL needs WINNOW_KAFKA_USER and WINNOW_KAFKA_PASSWORD"),
        PASSWORD,
    ),
    "a job that the command line does not know": Mutation(
        "values.yaml",
        "[retrain, --only, ranking, --json]",
        "[retrain, --onyl, ranking, --json]",
        ("CronJob/winnow-jobs-retrain-ranking", "No such option: --onyl"),
    ),
    "an option that a program does not know": Mutation(
        "templates/stream.yaml", "--metrics-port=", "--metric-port=", ("has no option --metric-port",)
    ),
    "a job that may run for ever": Mutation(
        "templates/_work.tpl", "activeDeadlineSeconds: {{ .one.deadlineSeconds }}", "", ("the job may run for ever",)
    ),
    "a volume that nobody makes": Mutation(
        "templates/home.yaml",
        '"name" "home"',
        '"name" "house"',
        ("Deployment/winnow-feature", "PersistentVolumeClaim 'winnow-home' is neither made here"),
    ),
    "an account that nobody makes": Mutation(
        DEPLOYMENT,
        'serviceAccountName: {{ include "winnow.name" $ }}-{{ $name }}',
        "serviceAccountName: {{ $name }}",
        ("service account 'gateway'",),
    ),
    "a token of the cluster": Mutation(
        POD,
        "automountServiceAccountToken: false",
        "automountServiceAccountToken: true",
        ("holds a token of the cluster",),
    ),
}
