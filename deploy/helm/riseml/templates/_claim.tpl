{{/* A PersistentVolumeClaim. Takes (dict "root" . "name" ... "namespace" ... "volume" VALUES). */}}

{{- define "riseml.claim" -}}
apiVersion: v1
kind: PersistentVolumeClaim
metadata:
  name: {{ .name }}
  namespace: {{ .namespace }}
  labels:
    {{- include "riseml.labels" .root | nindent 4 }}
  {{- if .volume.keep }}
  annotations:
    helm.sh/resource-policy: keep
  {{- end }}
spec:
  accessModes:
    - {{ .volume.accessMode }}
  resources:
    requests:
      storage: {{ .volume.size }}
  {{- if eq .volume.storageClass "-" }}
  storageClassName: ""
  {{- else if .volume.storageClass }}
  storageClassName: {{ .volume.storageClass }}
  {{- end }}
{{- end -}}
