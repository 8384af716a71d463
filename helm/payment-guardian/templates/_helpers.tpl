{{- define "payment-guardian.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{- define "payment-guardian.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" -}}
{{- else if contains (include "payment-guardian.name" .) .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name (include "payment-guardian.name" .) | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "payment-guardian.selector" -}}
app.kubernetes.io/name: {{ include "payment-guardian.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end -}}

{{- define "payment-guardian.labels" -}}
{{ include "payment-guardian.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end -}}

{{- define "payment-guardian.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}
{{- default (include "payment-guardian.fullname" .) .Values.serviceAccount.name -}}
{{- else -}}
{{- default "default" .Values.serviceAccount.name -}}
{{- end -}}
{{- end -}}

{{- define "payment-guardian.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{/* What would lose payments, or start nothing, is refused before it is rendered. */}}
{{- define "payment-guardian.refuse" -}}
{{- $sqlite := eq .Values.store.kind "sqlite" -}}
{{- $standalone := eq .Values.mode "standalone" -}}
{{- if and $sqlite $standalone (gt (int .Values.replicas) 1) -}}
{{- fail "replicas: more than 1 pod cannot share one SQLite file; set store.kind to redis" -}}
{{- end -}}
{{- if and $sqlite .Values.autoscaling.enabled -}}
{{- fail "autoscaling.enabled: several pods cannot share one SQLite file; set store.kind to redis" -}}
{{- end -}}
{{- if and (not $sqlite) (not .Values.store.redis.urlSecret) -}}
{{- fail "store.redis.urlSecret: missing; name the Secret that holds the store URL" -}}
{{- end -}}
{{- if and $sqlite (not $standalone) (not .Values.store.sqlite.volume) -}}
{{- fail "store.sqlite.volume: missing; a sidecar's SQLite file needs a volume that outlives the pod" -}}
{{- end -}}
{{- if and (not $standalone) .Values.serviceMonitor.enabled (not .Values.sidecar.podLabels) -}}
{{- fail "sidecar.podLabels: missing; the PodMonitor must know the pods" -}}
{{- end -}}
{{- if and .Values.policy.existingConfigMap .Values.policy.existingSecret -}}
{{- fail "policy: existingConfigMap and existingSecret are both set; keep one" -}}
{{- end -}}
{{- if lt (int .Values.shutdown.gracePeriodSeconds) (add (int .Values.shutdown.delaySeconds) 25) -}}
{{- fail "shutdown.gracePeriodSeconds: too short; delaySeconds and 25 more are needed to answer held callers" -}}
{{- end -}}
{{- if and (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) .Values.autoscaling.enabled -}}
{{- fail "autoscaling.minReplicas: above maxReplicas" -}}
{{- end -}}
{{- end -}}
