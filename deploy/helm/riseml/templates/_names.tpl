{{/* Names, labels and addresses that several manifests share. */}}

{{- define "riseml.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" -}}
{{- end -}}

{{/* Room is left for the longest suffix, "-output". */}}
{{- define "riseml.fullname" -}}
{{- $name := include "riseml.name" . -}}
{{- $whole := .Release.Name -}}
{{- if not (contains $name .Release.Name) -}}
{{- $whole = printf "%s-%s" .Release.Name $name -}}
{{- end -}}
{{- default $whole .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- end -}}

{{/* Cluster-wide objects of two releases of one name, in two namespaces, must not meet. */}}
{{- define "riseml.clusterName" -}}
{{- printf "%s:%s" .Release.Namespace (include "riseml.fullname" .) -}}
{{- end -}}

{{- define "riseml.selectorLabels" -}}
app.kubernetes.io/name: {{ include "riseml.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: control-plane
{{- end -}}

{{- define "riseml.labels" -}}
{{ include "riseml.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}

{{- define "riseml.image" -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" .Values.image.repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "riseml.serviceAccountName" -}}
{{- default (include "riseml.fullname" .) .Values.serviceAccount.name -}}
{{- end -}}

{{- define "riseml.jobsNamespace" -}}
{{- default .Release.Namespace .Values.jobs.namespace -}}
{{- end -}}

{{/* The name by which pods of any namespace reach the control plane. */}}
{{- define "riseml.serviceHost" -}}
{{- printf "%s.%s.svc" (include "riseml.fullname" .) .Release.Namespace -}}
{{- end -}}

{{- define "riseml.homeClaim" -}}
{{- default (printf "%s-home" (include "riseml.fullname" .)) .Values.home.existingClaim -}}
{{- end -}}

{{/* The claim behind jobs.data or jobs.output, or nothing. Takes (dict "root" . "role" "data"). */}}
{{- define "riseml.jobsClaim" -}}
{{- $volume := index .root.Values.jobs .role -}}
{{- if $volume.size -}}
{{- printf "%s-%s" (include "riseml.fullname" .root) .role -}}
{{- else -}}
{{- $volume.existingClaim -}}
{{- end -}}
{{- end -}}

{{/*
The claim of jobs.data or jobs.output if the control plane can mount it: claims do not reach beyond their namespace. It
serves data:// from the one. It does not use the other, but where the storage class waits for a first consumer only a pod
that Kubernetes' scheduler places makes it a volume, and jobs are placed by the control plane. Takes what
riseml.jobsClaim takes.
*/}}
{{- define "riseml.mountedClaim" -}}
{{- if eq (include "riseml.jobsNamespace" .root) .root.Release.Namespace -}}
{{- include "riseml.jobsClaim" . -}}
{{- end -}}
{{- end -}}
