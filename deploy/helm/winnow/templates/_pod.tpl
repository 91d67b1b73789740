{{/* What all pods agree on: nobody is root, nothing is written but volumes, no token of the cluster is held. */}}

{{/* (dict "root" $ "user" 999), where a part's image wants a user of its own. */}}
{{- define "winnow.podSecurity" -}}
{{- $user := .user | default .root.Values.security.user }}
automountServiceAccountToken: false
enableServiceLinks: false
{{- with .root.Values.images.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- with .root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ $user }}
  runAsGroup: {{ .user | default .root.Values.security.group }}
  fsGroup: {{ .user | default .root.Values.security.group }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "winnow.containerSecurity" -}}
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{- define "winnow.placement" -}}
{{- with .nodeSelector }}
nodeSelector: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .tolerations }}
tolerations: {{ toYaml . | nindent 2 }}
{{- end }}
{{- with .affinity }}
affinity: {{ toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Pods of a component apart: over hosts where that can be had, over zones always. */}}
{{- define "winnow.spread" -}}
{{- if or .spread.zones .spread.hosts }}
topologySpreadConstraints:
  {{- if .spread.zones }}
  - maxSkew: 1
    topologyKey: topology.kubernetes.io/zone
    whenUnsatisfiable: DoNotSchedule
    labelSelector: {matchLabels: {{ include "winnow.selector" . | fromYaml | toJson }}}
  {{- end }}
  {{- if .spread.hosts }}
  - maxSkew: 1
    topologyKey: kubernetes.io/hostname
    whenUnsatisfiable: ScheduleAnyway
    labelSelector: {matchLabels: {{ include "winnow.selector" . | fromYaml | toJson }}}
  {{- end }}
{{- end }}
{{- end }}

{{/* Beside the pod that writes the home, where only one node may mount it. */}}
{{- define "winnow.besideHome" -}}
{{- if eq .Values.home.accessMode "ReadWriteOnce" }}
affinity:
  podAffinity:
    requiredDuringSchedulingIgnoredDuringExecution:
      - topologyKey: kubernetes.io/hostname
        labelSelector:
          matchLabels: {{ include "winnow.selector" (dict "root" . "name" (include "winnow.keeper" .)) | fromYaml | toJson }}
{{- end }}
{{- end }}

{{/* A claim's spec: (dict "root" $ "size" … "storageClass" … "mode" …). */}}
{{- define "winnow.claim" -}}
accessModes: [{{ .mode | default "ReadWriteOnce" }}]
{{- with .storageClass }}
storageClassName: {{ . }}
{{- end }}
resources: {requests: {storage: {{ .size }}}}
{{- end }}

{{/* A template of claims of a StatefulSet, and what every pod of one has. */}}
{{- define "winnow.claims" -}}
volumeClaimTemplates:
  - metadata: {name: data}
    spec: {{ include "winnow.claim" . | nindent 6 }}
{{- end }}

{{/* Secrets are mounted as folders: what is mounted by subPath never changes. */}}
{{- define "winnow.auditKeysMount" -}}
{{- if .Values.audit.existingSecret }}
- {name: audit-keys, mountPath: /var/lib/winnow/audit-keys, readOnly: true}
{{- end }}
{{- end }}

{{/* Just the keys that are named, so that a pod waits for one that the Secret lacks instead of recording without it. */}}
{{- define "winnow.auditKeysVolume" -}}
{{- with .Values.audit }}
{{- if .existingSecret }}
- name: audit-keys
  secret:
    secretName: {{ .existingSecret }}
    defaultMode: 0440
    items:
      {{- range without (list .keys.signing .keys.pseudonyms) "" | uniq }}
      - {key: {{ . }}, path: {{ . }}}
      {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The gateways' records: one volume for all, each gateway with a chain of its own in it, or a volume of each pod's own. */}}
{{- define "winnow.auditVolume" -}}
{{- if .Values.audit.shared }}
- {name: audit, persistentVolumeClaim: {claimName: {{ include "winnow.auditClaim" . }}}}
{{- else }}
- name: audit
  ephemeral:
    volumeClaimTemplate:
      spec: {{ include "winnow.claim" (dict "size" .Values.audit.size "storageClass" .Values.audit.storageClass) | nindent 8 }}
{{- end }}
{{- end }}
