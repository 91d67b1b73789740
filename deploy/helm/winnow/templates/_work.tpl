{{/* A job of the command line over the home, as a Job's spec: (dict "root" $ "one" … "id" …). What it ends with is in
cli/turns.py: 3, a challenger is worse than the champion, and 4, another job works in the home, are not tried again. */}}
{{- define "winnow.work" -}}
backoffLimit: {{ .one.backoffLimit | default 2 }}
activeDeadlineSeconds: {{ .one.deadlineSeconds }}
ttlSecondsAfterFinished: 86400
podFailurePolicy:
  rules:
    - action: Ignore
      onPodConditions: [{type: DisruptionTarget, status: "True"}]
    - action: FailJob
      onExitCodes: {containerName: work, operator: In, values: [2, 3, 4]}
template:
  metadata:
    labels: {{ include "winnow.labels" .id | nindent 6 }}
  spec:
    restartPolicy: Never
    serviceAccountName: {{ include "winnow.name" .root }}-jobs
    {{- include "winnow.podSecurity" (dict "root" .root) | nindent 4 }}
    {{- include "winnow.placement" (omit .one "affinity") | nindent 4 }}
    {{- include "winnow.besideHome" .root | nindent 4 }}
    containers:
      - name: work
        image: {{ include "winnow.image" (dict "root" .root "image" .root.Values.images.jobs) }}
        imagePullPolicy: {{ .root.Values.images.pullPolicy }}
        command: [python, -m, cli]
        args: {{ toJson .one.arguments }}
        env: {{ include "winnow.jobSettings" .root | nindent 10 }}
        resources: {{ toYaml .one.resources | nindent 10 }}
        {{- include "winnow.containerSecurity" .root | nindent 8 }}
        volumeMounts:
          - {name: home, mountPath: {{ .root.Values.home.path }}}
          - {name: tmp, mountPath: /tmp}
          {{- include "winnow.auditKeysMount" .root | nindent 10 }}
    volumes:
      - {name: home, persistentVolumeClaim: {claimName: {{ include "winnow.homeClaim" .root }}}}
      - {name: tmp, emptyDir: {sizeLimit: 10Gi}}
      {{- include "winnow.auditKeysVolume" .root | nindent 6 }}
{{- end }}
