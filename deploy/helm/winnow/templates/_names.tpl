{{/* What objects are called, and how they find each other. */}}

{{- define "winnow.name" -}}
{{- default .Release.Name .Values.nameOverride | trunc 30 | trimSuffix "-" }}
{{- end }}

{{/* Of a component: (dict "root" $ "name" "gateway"). */}}
{{- define "winnow.selector" -}}
app.kubernetes.io/name: winnow
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .name }}
{{- end }}

{{- define "winnow.labels" -}}
{{ include "winnow.selector" . }}
app.kubernetes.io/part-of: winnow
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" }}
{{- end }}

{{/* Name, namespace and labels of an object of a component. "name" is the component, "suffix" what follows it. */}}
{{- define "winnow.metadata" -}}
name: {{ include "winnow.name" .root }}-{{ .name }}{{ with .suffix }}-{{ . }}{{ end }}
namespace: {{ .root.Release.Namespace }}
labels:
  {{- include "winnow.labels" . | nindent 2 }}
{{- end }}

{{/* (dict "root" $ "image" (dict "repository" "…" "tag" "…" "digest" "…")); our own have no slash and no tag. */}}
{{- define "winnow.image" -}}
{{- $own := not (contains "/" .image.repository) }}
{{- $repository := ternary (printf "%s/%s" .root.Values.images.registry .image.repository) .image.repository $own }}
{{- with .image.digest }}
{{- printf "%s@%s" $repository . }}
{{- else }}
{{- printf "%s:%s" $repository (.image.tag | default .root.Values.images.tag | default .root.Chart.AppVersion) }}
{{- end }}
{{- end }}

{{- define "winnow.secret" -}}
{{- .Values.secrets.name | default (printf "%s-secrets" (include "winnow.name" .)) }}
{{- end }}

{{/* The host and port of an address such as postgresql://user@host:5432/name or host:9092,host:9092; "port" is its usual one. */}}
{{- define "winnow.portOf" -}}
{{- $address := .address | splitList "," | first }}
{{- $place := regexReplaceAll "^[a-z0-9+]+://([^@/]*@)?" $address "" | splitList "/" | first }}
{{- $found := regexFind ":[0-9]+$" $place | trimPrefix ":" }}
{{- if $found }}{{ $found }}{{ else if hasPrefix "https://" $address }}443{{ else }}{{ .port }}{{ end }}
{{- end }}
