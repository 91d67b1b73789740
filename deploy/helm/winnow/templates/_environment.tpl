{{/* What processes are told. */}}

{{/* A map NAME: value, or NAME: {secret, key}, as a list of variables. */}}
{{- define "winnow.variables" -}}
{{- range $name, $value := . }}
- name: {{ $name }}
  {{- if kindIs "map" $value }}
  valueFrom: {secretKeyRef: {name: {{ $value.secret }}, key: {{ $value.key }}}}
  {{- else }}
  value: {{ $value | quote }}
  {{- end }}
{{- end }}
{{- end }}

{{/* Of every process of ours: no telemetry, threads that sleep, and a home folder that can be written. */}}
{{- define "winnow.quiet" -}}
- {name: ORT_DISABLE_TELEMETRY, value: "1"}
- {name: MLFLOW_DISABLE_TELEMETRY, value: "true"}
- {name: DO_NOT_TRACK, value: "1"}
- {name: OMP_WAIT_POLICY, value: PASSIVE}
- {name: HOME, value: /tmp}
{{- end }}

{{/* Of every process of ours, jobs and the stream included: where traces go, and `env`, how brokers are spoken to among it.
(dict "root" $ "own" …): `own` is the env of one service, and goes before. */}}
{{- define "winnow.shared" -}}
{{- with .root.Values.tracing }}
{{- if .endpoint }}
- {name: WINNOW_OTLP_ENDPOINT, value: {{ .endpoint | quote }}}
- {name: WINNOW_TRACE_SAMPLE, value: {{ .sample | quote }}}
{{- end }}
{{- end }}
{{- include "winnow.variables" (mergeOverwrite (deepCopy .root.Values.env) (deepCopy (.own | default dict))) }}
{{- end }}

{{- define "winnow.redis" -}}
{{- $name := include "winnow.name" . }}
{{- with .Values.redis.externalSecret }}
{{- if .name }}
- name: WINNOW_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ .name }}, key: {{ .key }}}}
{{- else if $.Values.redis.external }}
- {name: WINNOW_REDIS_URL, value: {{ $.Values.redis.external | quote }}}
{{- else }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "winnow.secret" $ }}, key: {{ $.Values.secrets.keys.redis }}}}
- {name: WINNOW_REDIS_URL, value: "redis://:$(REDIS_PASSWORD)@{{ $name }}-redis:6379/0"}
{{- end }}
{{- end }}
{{- end }}

{{- define "winnow.kafka" -}}
{{- if .Values.kafka.external }}
{{- .Values.kafka.external }}
{{- else }}
{{- $name := include "winnow.name" . }}
{{- $all := list }}
{{- range until (int .Values.kafka.brokers) }}{{ $all = append $all (printf "%s-kafka-%d.%s-kafka:9092" $name . $name) }}{{ end }}
{{- join "," $all }}
{{- end }}
{{- end }}

{{- define "winnow.brokers" }}
- {name: WINNOW_KAFKA_BOOTSTRAP, value: {{ include "winnow.kafka" . | quote }}}
- {name: WINNOW_KAFKA_REPLICAS, value: {{ .Values.kafka.copies | quote }}}
{{- end }}

{{- define "winnow.mlflow" -}}
{{- .Values.mlflow.external | default (printf "http://%s-mlflow:5000" (include "winnow.name" .)) }}
{{- end }}

{{- define "winnow.triton" -}}
- {name: WINNOW_TRITON_ADDRESS, value: {{ .Values.triton.external | default (printf "%s-triton:8001" (include "winnow.name" .)) | quote }}}
- {name: WINNOW_TRITON_REPOSITORY, value: /var/lib/winnow/models}
- {name: WINNOW_TRITON_GPU, value: {{ gt (int .Values.triton.gpus) 0 | quote }}}
- {name: WINNOW_TRITON_INSTANCES, value: {{ .Values.triton.instances | quote }}}
- {name: WINNOW_TRITON_TENSORRT, value: {{ .Values.triton.tensorrt | quote }}}
{{- end }}

{{/* The password, then the address of MLflow's database. */}}
{{- define "winnow.database" -}}
- name: POSTGRES_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ include "winnow.secret" . }}, key: {{ .Values.secrets.keys.postgres }}}}
{{- if .Values.mlflow.database.external }}
- {name: MLFLOW_BACKEND_STORE_URI, value: {{ regexReplaceAll "@" .Values.mlflow.database.external ":$(POSTGRES_PASSWORD)@" | quote }}}
{{- else }}
- {name: MLFLOW_BACKEND_STORE_URI, value: "postgresql://winnow:$(POSTGRES_PASSWORD)@{{ include "winnow.name" . }}-postgres:5432/mlflow"}
{{- end }}
{{- end }}

{{- define "winnow.objects" -}}
- name: AWS_ACCESS_KEY_ID
  valueFrom: {secretKeyRef: {name: {{ include "winnow.secret" . }}, key: {{ .Values.secrets.keys.objectsAccess }}}}
- name: AWS_SECRET_ACCESS_KEY
  valueFrom: {secretKeyRef: {name: {{ include "winnow.secret" . }}, key: {{ .Values.secrets.keys.objectsSecret }}}}
{{- end }}

{{/* Of a service: (dict "root" $ "name" … "one" … "parts" …). */}}
{{- define "winnow.settings" -}}
{{- $root := .root }}
{{- $name := include "winnow.name" $root }}
{{- $services := include "winnow.services" $root | fromYaml }}
{{- include "winnow.quiet" $root }}
- {name: WINNOW_HOME, value: {{ $root.Values.home.path }}}
{{- range $listen, $port := .one.listens }}
- {name: WINNOW_{{ upper $listen }}_ADDRESS, value: "0.0.0.0:{{ $port }}"}
{{- end }}
- {name: WINNOW_METRICS_ADDRESS, value: "0.0.0.0:9100"} # the gateway's own face wants a credential for them
{{- range .one.calls | default list }}
- {name: WINNOW_{{ upper . }}_ADDRESS, value: "{{ $name }}-{{ . }}:{{ get (get (get $services .) "listens") . }}"}
{{- end }}
{{- range .one.uses | default list }}
{{- if hasKey $.parts . }}
{{- if eq . "redis" }}{{ include "winnow.redis" $root }}{{ end }}
{{- if eq . "kafka" }}
{{- include "winnow.brokers" $root }}
{{- end }}
{{- if eq . "mlflow" }}
- {name: WINNOW_MLFLOW_URI, value: {{ include "winnow.mlflow" $root | quote }}}
{{- end }}
{{- if eq . "triton" }}
{{ include "winnow.triton" $root }}
{{- end }}
{{- end }}
{{- end }}
{{- if $root.Values.tls.enabled }}
- {name: WINNOW_TLS_FOLDER, value: /var/lib/winnow/tls}
- {name: WINNOW_TLS_DOMAIN, value: {{ $root.Values.tls.domain }}}
{{- end }}
{{- if .one.faceTls }}
- {name: WINNOW_FACE_TLS_FOLDER, value: /var/lib/winnow/face-tls}
{{- end }}
{{- if .one.probed }}
- {name: WINNOW_HEALTH_ADDRESS, value: "0.0.0.0:50059"} # a kubelet has no certificate
{{- end }}
- {name: WINNOW_DRAIN_S, value: {{ .one.drainSeconds | quote }}}
{{- if .one.audits }}
{{- if ne .one.home "kept" }}
- {name: WINNOW_AUDIT_FOLDER, value: /var/lib/winnow/audit}
{{- end }}
{{- include "winnow.auditKeys" $root }}
{{- end }}
{{- if .one.ruled }}
- {name: WINNOW_RULES_FILE, value: /var/lib/winnow/rules/rules.json}
{{- end }}
{{- if and (hasKey .one.listens "rest") $root.Values.auth.enabled }}
{{ include "winnow.auth" $root }}
{{- end }}
{{- include "winnow.shared" (dict "root" $root "own" .one.env) }}
{{- end }}

{{- define "winnow.auth" -}}
- {name: WINNOW_AUTH, value: "on"}
{{- range $name, $value := dict "JWKS_URL" .Values.auth.jwksUrl "JWT_ISSUER" .Values.auth.issuer "JWT_AUDIENCE" .Values.auth.audience "TRUSTED_PROXIES" .Values.auth.trustedProxies }}
{{- if $value }}
- {name: WINNOW_{{ $name }}, value: {{ $value | quote }}}
{{- end }}
{{- end }}
{{- with .Values.auth.apiKeys }}
{{- if .secret }}
- {name: WINNOW_API_KEYS_FILE, value: /var/lib/winnow/api-keys/{{ .key }}} # a key that is revoked is gone without a restart
{{- end }}
{{- end }}
{{- end }}

{{/* Where the keys of the audit log lie. Who writes records has the same ones as all others, jobs included: else some
chains would not be signed, and one person would have several pseudonyms. */}}
{{- define "winnow.auditKeys" -}}
{{- with .Values.audit }}
{{- if .existingSecret }}
{{- if .keys.signing }}
- {name: WINNOW_AUDIT_KEY_FILE, value: /var/lib/winnow/audit-keys/{{ .keys.signing }}}
{{- end }}
{{- if .keys.pseudonyms }}
- {name: WINNOW_AUDIT_PSEUDONYM_FILE, value: /var/lib/winnow/audit-keys/{{ .keys.pseudonyms }}}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* Of a job that works in the home. */}}
{{- define "winnow.jobSettings" -}}
{{- include "winnow.quiet" . }}
- {name: WINNOW_HOME, value: {{ .Values.home.path }}}
{{- if .Values.mlflow.enabled }}
- {name: WINNOW_MLFLOW_URI, value: {{ include "winnow.mlflow" . | quote }}}
{{- end }}
{{- if .Values.kafka.enabled }}{{/* what they record is copied there */}}
{{- include "winnow.brokers" . }}
{{- end }}
{{- include "winnow.auditKeys" . }}
{{- include "winnow.shared" (dict "root" .) }}
{{- end }}
