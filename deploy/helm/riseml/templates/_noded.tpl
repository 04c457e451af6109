{{/* Names of what runs on every node, in a namespace of its own. */}}

{{- define "riseml.nodedNamespace" -}}
{{- default (printf "%s-noded" .Release.Namespace) .Values.noded.namespace -}}
{{- end -}}

{{- define "riseml.nodedName" -}}
{{- printf "%s-noded" (include "riseml.fullname" .) -}}
{{- end -}}

{{- define "riseml.authorityName" -}}
{{- printf "%s-ca" (include "riseml.fullname" .) -}}
{{- end -}}

{{- define "riseml.nodedSelectorLabels" -}}
app.kubernetes.io/name: {{ include "riseml.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: noded
{{- end -}}

{{- define "riseml.nodedLabels" -}}
{{ include "riseml.nodedSelectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end -}}
