{{/* What runs, as data: the ports of each component, what it calls and where its metrics are. Services, policies,
accounts, budgets and monitors range over it. */}}

{{/* The entries of `services` that are enabled, each with what `service` says where it says nothing, and what follows from it:
`faceTls`, strangers are spoken to by TLS; `probed`, a kubelet asks a port of its own; `audits`, it records what it answers; `keyed`, it reads API keys; `ruled`, it reads business rules. */}}
{{- define "winnow.services" -}}
{{- $all := dict }}
{{- range $name, $own := .Values.services }}
{{- $one := mergeOverwrite (deepCopy $.Values.service) (deepCopy ($own | default dict)) }}
{{- $face := hasKey ($one.listens | default dict) "rest" }}
{{- $faceTls := and $face (ne $.Values.tls.face.secret "") }}
{{- $one = merge $one (dict "faceTls" $faceTls "probed" (or $.Values.tls.enabled $faceTls) "audits" $face "keyed" (and $face $.Values.auth.enabled (ne $.Values.auth.apiKeys.secret "")) "ruled" (and $face (ne $.Values.rules.configMap ""))) }}
{{- if $one.enabled }}{{ $_ := set $all $name $one }}{{ end }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{/* Parts that the services use and that are there: their default port, and whether this chart runs them. */}}
{{- define "winnow.parts" -}}
{{- if .Values.redis.enabled }}
redis: {port: 6379, bundled: {{ and (not .Values.redis.external) (not .Values.redis.externalSecret.name) }}, address: {{ .Values.redis.external | quote }}}
{{- end }}
{{- if .Values.kafka.enabled }}
kafka: {port: 9092, bundled: {{ not .Values.kafka.external }}, address: {{ .Values.kafka.external | quote }}}
{{- end }}
{{- if .Values.mlflow.enabled }}
mlflow: {port: 5000, bundled: {{ not .Values.mlflow.external }}, address: {{ .Values.mlflow.external | quote }}}
{{- if not .Values.mlflow.external }}
postgres: {port: 5432, bundled: {{ not .Values.mlflow.database.external }}, address: {{ .Values.mlflow.database.external | quote }}}
objects: {port: 8333, bundled: {{ not .Values.mlflow.objects.external }}, address: {{ .Values.mlflow.objects.external | quote }}}
{{- end }}
{{- end }}
{{- if .Values.triton.enabled }}
triton: {port: 8001, bundled: {{ not .Values.triton.external }}, address: {{ .Values.triton.external | quote }}}
{{- end }}
{{- end }}

{{/* Every component that has pods. `calls`: whom it may reach; `metrics`: where they are; `headless`: callers see every pod;
`early`: also those that are not ready; `inner`: ports for its own kind alone; `any`: all ports, among its own kind; `told`: ours,
with what all of ours are told, where traces go among it. */}}
{{- define "winnow.components" -}}
{{- $parts := include "winnow.parts" . | fromYaml }}
{{- $all := dict }}
{{- range $name, $one := include "winnow.services" . | fromYaml }}
{{- $ports := deepCopy $one.listens }}
{{- $calls := $one.calls | default list }}
{{- range $one.uses | default list }}{{ if hasKey $parts . }}{{ $calls = append $calls . }}{{ end }}{{ end }}
{{- $_ := set $ports "metrics" 9100 }}
{{- $_ := set $all $name (dict "ports" $ports "calls" $calls "metrics" (dict "port" "metrics") "service" true "told" true "disruptions" $one.disruptions "headless" (not (hasKey $ports "rest")) "face" (hasKey $ports "rest") "faceTls" $one.faceTls "tls" $.Values.tls.enabled) }}
{{- end }}
{{- range $name, $part := $parts }}
{{- if $part.bundled }}
{{- $_ := set $all $name (dict "ports" (dict $name $part.port) "calls" list "disruptions" 1) }}
{{- end }}
{{- end }}
{{- if and (hasKey $all "redis") (gt (int $.Values.redis.replicas) 1) }}
{{- $_ := set $all.redis "calls" (list "redis-nodes") }}
{{- $_ := set $all "redis-nodes" (dict "ports" (dict "redis" 6379 "sentinel" 26379) "inner" (list "sentinel") "calls" (list "redis-nodes") "disruptions" 1 "headless" true "early" true) }}
{{- end }}
{{- with $all.kafka }}
{{- $_ := set .ports "controller" 9093 }}
{{- $_ := set . "inner" (list "controller") }}
{{- $_ := set . "calls" (list "kafka") }}
{{- $_ := set . "headless" true }}
{{- $_ := set . "early" true }}
{{- end }}
{{- with $all.mlflow }}{{ $_ := set . "calls" (list "postgres" "objects") }}{{ end }}
{{- with $all.triton }}
{{- $_ := set . "early" true }}
{{- $_ := set .ports "metrics" 8002 }}
{{- $_ := set . "metrics" (dict "port" "metrics") }}
{{- end }}
{{- if .Values.stream.enabled }}
{{- $_ := set $all "stream" (dict "ports" (dict "metrics" 9109) "calls" (list "kafka" "redis") "told" true "metrics" (dict "port" "metrics") "disruptions" 1) }}
{{- end }}
{{- $recorded := list }}
{{- range list "mlflow" "kafka" }}{{ if hasKey $parts . }}{{ $recorded = append $recorded . }}{{ end }}{{ end }}
{{- $_ := set $all "jobs" (dict "ports" dict "calls" $recorded "told" true) }}
{{- range $name, $one := $all }}
{{- if $one.face }}{{ $_ := set $all "test" (dict "ports" dict "calls" (list $name)) }}{{ end }}
{{- end }}
{{- if and .Values.hooks.topics (hasKey $parts "kafka") }}
{{- $_ := set $all "topics" (dict "ports" dict "calls" (list "kafka") "told" true) }}
{{- end }}
{{- if and .Values.hooks.database $parts.mlflow }}{{ if $parts.mlflow.bundled }}
{{- $_ := set $all "database" (dict "ports" dict "calls" (list "postgres")) }}
{{- end }}{{ end }}
{{- if .Values.training.enabled }}
{{- $_ := set $all "training" (dict "ports" (dict "rendezvous" 29400) "any" true "calls" (list "training") "told" true "headless" true "early" true) }}
{{- end }}
{{- toYaml $all }}
{{- end }}

{{/* The name of the component that writes the home. */}}
{{- define "winnow.keeper" -}}
{{- range $name, $one := include "winnow.services" . | fromYaml }}{{ if eq $one.home "kept" }}{{ $name }}{{ end }}{{ end }}
{{- end }}

{{- define "winnow.homeClaim" -}}
{{- .Values.home.existingClaim | default (printf "%s-home" (include "winnow.name" .)) }}
{{- end }}

{{/* The components that record and do not keep the home, whose own folder is for records too. */}}
{{- define "winnow.auditsApart" -}}
{{- range $name, $one := include "winnow.services" . | fromYaml }}{{ if and $one.audits (ne $one.home "kept") }}{{ $name }}{{ end }}{{ end }}
{{- end }}

{{- define "winnow.auditClaim" -}}
{{- .Values.audit.existingClaim | default (printf "%s-audit" (include "winnow.name" .)) }}
{{- end }}

{{- define "winnow.repositoryClaim" -}}
{{- .Values.triton.repository.existingClaim | default (printf "%s-triton-models" (include "winnow.name" .)) }}
{{- end }}
