{{/* What the schema cannot say: values that contradict each other. The Deployment includes this first. */}}

{{- define "riseml.checks" -}}
{{- if regexMatch "^[a-z]+://[^@/]*:[^@/]*@|[?&]password=" .Values.store.url -}}
{{- fail "store.url holds a password, and would show it in a ConfigMap: leave it out there and name its Secret in store.existingSecret." -}}
{{- end -}}
{{- if and .Values.store.existingSecret (not .Values.store.url) -}}
{{- fail "store.existingSecret holds a password, but store.url names no PostgreSQL server." -}}
{{- end -}}
{{- if and .Values.store.caSecret (not .Values.store.url) -}}
{{- fail "store.caSecret holds an authority, but store.url names no PostgreSQL server." -}}
{{- end -}}
{{- if and (not .Values.serviceAccount.create) (not .Values.serviceAccount.name) -}}
{{- fail "serviceAccount.create is false: name the account in serviceAccount.name. The namespace's default account would give the control plane's rights to every pod there." -}}
{{- end -}}
{{- if and .Values.jobs.createNamespace (eq (include "riseml.jobsNamespace" .) .Release.Namespace) -}}
{{- fail "jobs.createNamespace is true, but jobs.namespace is the release's own namespace: helm makes that with --create-namespace, and its Pod Security label is set with kubectl." -}}
{{- end -}}
{{- if and .Values.noded.enabled (has (include "riseml.nodedNamespace" .) (list .Release.Namespace (include "riseml.jobsNamespace" .))) -}}
{{- fail "noded.namespace is the namespace of the control plane or of jobs: it needs Pod Security's level privileged, which they should not have. Name another, or set noded.enabled to false." -}}
{{- end -}}
{{- range $role := list "data" "output" -}}
{{- $volume := index $.Values.jobs $role -}}
{{- if gt (len (compact (list $volume.size $volume.existingClaim $volume.hostPath))) 1 -}}
{{- fail (printf "jobs.%s: give one of size, existingClaim and hostPath." $role) -}}
{{- end -}}
{{- if and $volume.hostPath (ne $.Values.jobs.podSecurity "privileged") -}}
{{- fail (printf "jobs.%s.hostPath: Pod Security lets pods mount folders of their node at level privileged only. Use a claim, or set jobs.podSecurity to privileged." $role) -}}
{{- end -}}
{{- end -}}
{{- end -}}
