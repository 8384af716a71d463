{{/* The guardian as one container of a pod; the context is this chart's. */}}
{{- define "payment-guardian.container" -}}
{{- $sidecar := eq .Values.mode "sidecar" -}}
name: payment-guardian
image: {{ include "payment-guardian.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
args: [serve]
ports:
  - {name: guardian, containerPort: {{ .Values.ports.data }}, protocol: TCP}
  - {name: guardian-ops, containerPort: {{ .Values.ports.ops }}, protocol: TCP}
env:
  - name: GUARDIAN_POLICY
    value: /etc/guardian/policy.yaml
  # Beside an application, only that application calls.
  - name: GUARDIAN_LISTEN
    value: {{ printf "%s:%d" (ternary "127.0.0.1" .Values.bindAddress $sidecar) (int .Values.ports.data) | quote }}
  - name: GUARDIAN_OPS_LISTEN
    value: {{ printf "%s:%d" .Values.bindAddress (int .Values.ports.ops) | quote }}
  - name: GUARDIAN_LOG_LEVEL
    value: {{ .Values.logLevel }}
  - name: GUARDIAN_STORE
    {{- if eq .Values.store.kind "redis" }}
    valueFrom:
      secretKeyRef:
        name: {{ .Values.store.redis.urlSecret }}
        key: {{ .Values.store.redis.urlKey }}
    {{- else }}
    value: sqlite:////var/lib/guardian/guardian.db
    {{- end }}
  {{- range .Values.secrets.env }}
  - name: {{ .name }}
    valueFrom:
      secretKeyRef:
        name: {{ .secret }}
        key: {{ .key }}
  {{- end }}
  {{- range $name, $value := .Values.env }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
{{- with .Values.secrets.envFrom }}
envFrom:
  {{- range . }}
  - secretRef:
      name: {{ . }}
  {{- end }}
{{- end }}
startupProbe:
  httpGet: {path: /healthz, port: guardian-ops}
  periodSeconds: 2
  timeoutSeconds: 2
  failureThreshold: {{ div (add (int .Values.startupSeconds) 1) 2 }}
livenessProbe:
  httpGet: {path: /healthz, port: guardian-ops}
  periodSeconds: 10
  timeoutSeconds: 5
  failureThreshold: 3
readinessProbe:
  httpGet: {path: /readyz, port: guardian-ops}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 2
lifecycle:
  preStop:
    exec:
      # The image has no shell.
      command: [/opt/guardian/bin/python, -c, "import time; time.sleep({{ .Values.shutdown.delaySeconds }})"]
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  runAsNonRoot: true
  {{- with .Values.runAsUser }}
  runAsUser: {{ . }}
  runAsGroup: {{ . }}
  {{- end }}
  capabilities:
    drop: [ALL]
  seccompProfile:
    type: RuntimeDefault
resources:
  {{- toYaml .Values.resources | nindent 2 }}
volumeMounts:
  # Whole directories: what is mounted with subPath is never updated.
  - name: guardian-policy
    mountPath: /etc/guardian
    readOnly: true
  - name: guardian-store
    mountPath: /var/lib/guardian
  {{- range $number, $file := .Values.secrets.files }}
  - name: guardian-secret-{{ $number }}
    mountPath: {{ $file.path }}
    readOnly: true
  {{- end }}
{{- end -}}

{{/* The volumes that the container mounts. */}}
{{- define "payment-guardian.volumes" -}}
- name: guardian-policy
  {{- if .Values.policy.existingSecret }}
  secret:
    secretName: {{ .Values.policy.existingSecret }}
  {{- else }}
  configMap:
    name: {{ default (printf "%s-policy" (include "payment-guardian.fullname" .)) .Values.policy.existingConfigMap }}
    {{- if and .Values.policy.profiles (not .Values.policy.existingConfigMap) }}
    items:
      - {key: policy.yaml, path: policy.yaml}
      {{- range $name, $_ := .Values.policy.profiles }}
      - {key: profile-{{ $name }}.yaml, path: profiles/{{ $name }}.yaml}
      {{- end }}
    {{- end }}
  {{- end }}
{{- if eq .Values.store.kind "redis" }}
# Nothing is kept here: the records are in Redis.
- name: guardian-store
  emptyDir:
    sizeLimit: 16Mi
{{- else if eq .Values.mode "sidecar" }}
- name: guardian-store
  {{- toYaml .Values.store.sqlite.volume | nindent 2 }}
{{- end }}
{{- range $number, $file := .Values.secrets.files }}
- name: guardian-secret-{{ $number }}
  secret:
    secretName: {{ $file.secret }}
    defaultMode: 0440
{{- end }}
{{- end -}}

{{/* The pod of the standalone form. */}}
{{- define "payment-guardian.pod" -}}
metadata:
  labels:
    {{- include "payment-guardian.labels" . | nindent 4 }}
    {{- with .Values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  {{- with .Values.podAnnotations }}
  annotations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "payment-guardian.serviceAccount" . }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  terminationGracePeriodSeconds: {{ .Values.shutdown.gracePeriodSeconds }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with .Values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  securityContext:
    runAsNonRoot: true
    {{- with .Values.fsGroup }}
    fsGroup: {{ . }}
    fsGroupChangePolicy: OnRootMismatch
    {{- end }}
    seccompProfile:
      type: RuntimeDefault
  containers:
    - {{- include "payment-guardian.container" . | nindent 6 }}
  volumes:
    {{- include "payment-guardian.volumes" . | nindent 4 }}
  topologySpreadConstraints:
    {{- with .Values.topologySpreadConstraints }}
    {{- toYaml . | nindent 4 }}
    {{- else }}
    {{- range $key := list "kubernetes.io/hostname" "topology.kubernetes.io/zone" }}
    - maxSkew: 1
      topologyKey: {{ $key }}
      whenUnsatisfiable: ScheduleAnyway
      labelSelector:
        matchLabels:
          {{- include "payment-guardian.selector" $ | nindent 10 }}
    {{- end }}
    {{- end }}
  {{- with .Values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.affinity }}
  affinity:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with .Values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end -}}

{{/*
For other charts, in mode sidecar: {{ include "payment-guardian.sidecar" (index .Subcharts "payment-guardian") }}
below `initContainers:` of a pod (below `containers:` with sidecar.native false).
*/}}
{{- define "payment-guardian.sidecar" -}}
{{- include "payment-guardian.refuse" . -}}
- {{- include "payment-guardian.container" . | nindent 2 }}
{{- if .Values.sidecar.native }}
  restartPolicy: Always
{{- end }}
{{- end -}}

{{/* Likewise, below `volumes:` of that pod. */}}
{{- define "payment-guardian.sidecarVolumes" -}}
{{- include "payment-guardian.volumes" . -}}
{{- end -}}
