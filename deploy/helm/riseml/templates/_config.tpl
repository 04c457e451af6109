{{/*
The control plane's configuration file. toJson writes strings and lists of strings as TOML has them too. Helm's own toToml
would make 1000.0 of the uid 1000, for all numbers of values are floating point.
*/}}

{{- define "riseml.tlsNames" -}}
{{- $service := include "riseml.fullname" . -}}
{{- $inNamespace := printf "%s.%s" $service .Release.Namespace -}}
{{- $inCluster := include "riseml.serviceHost" . -}}
{{- $full := printf "%s.%s" $inCluster .Values.clusterDomain -}}
{{- concat (list $inCluster $full $inNamespace $service) .Values.tlsNames | uniq | toJson -}}
{{- end -}}

{{/* claim:NAME, hostPath:/PATH or nothing. Takes (dict "root" . "role" "data"). */}}
{{- define "riseml.jobsVolume" -}}
{{- $hostPath := (index .root.Values.jobs .role).hostPath -}}
{{- $claim := include "riseml.jobsClaim" . -}}
{{- if $claim -}}
{{- printf "claim:%s" $claim -}}
{{- else if $hostPath -}}
{{- printf "hostPath:%s" $hostPath -}}
{{- end -}}
{{- end -}}

{{- define "riseml.secretNames" -}}
{{- $names := list -}}
{{- range . -}}
{{- $names = append $names .name -}}
{{- end -}}
{{- $names | toJson -}}
{{- end -}}

{{- define "riseml.config" -}}
home = "/var/lib/riseml"
listen = "0.0.0.0:7433"
{{- if .Values.tls.existingSecret }}
tls_folder = "/etc/riseml-tls"
{{- else }}
tls_names = {{ include "riseml.tlsNames" . }}
{{- end }}
admin_name = {{ .Values.settings.adminName | toJson }}
log_retention_days = {{ .Values.settings.logRetentionDays }}
use_half_life_days = {{ .Values.settings.useHalfLifeDays }}
debug = {{ .Values.settings.debug }}
{{- with .Values.store.url }}
store = {{ . | toJson }}
{{- end }}
{{- if include "riseml.mountedClaim" (dict "root" . "role" "data") }}
data_root = "/data"
{{- end }}
{{- if include "riseml.mountedClaim" (dict "root" . "role" "output") }}
output_root = "/output"
{{- end }}

[kubernetes]
kubeconfig = ""
namespace = {{ include "riseml.jobsNamespace" . | toJson }}
control_plane_address = {{ printf "%s:%d" (include "riseml.serviceHost" .) (int .Values.service.port) | toJson }}
platform_image = {{ include "riseml.image" . | toJson }}
{{- with .Values.jobs.defaultImage }}
default_image = {{ . | toJson }}
{{- end }}
image_pull_policy = {{ .Values.jobs.imagePullPolicy | toJson }}
image_pull_secrets = {{ include "riseml.secretNames" .Values.jobs.imagePullSecrets }}
data_volume = {{ include "riseml.jobsVolume" (dict "root" . "role" "data") | toJson }}
output_volume = {{ include "riseml.jobsVolume" (dict "root" . "role" "output") | toJson }}
pod_security = {{ .Values.jobs.podSecurity | toJson }}
{{- if not (kindIs "invalid" .Values.jobs.runAsUser) }}
run_as_user = {{ int64 .Values.jobs.runAsUser }}
{{- end }}
scheduling = {{ .Values.jobs.scheduling | toJson }}
{{- if .Values.noded.enabled }}
daemon_account = {{ printf "%s:%s" (include "riseml.nodedNamespace" .) (include "riseml.nodedName" .) | toJson }}
ca_config_map = {{ printf "%s/%s" (include "riseml.nodedNamespace" .) (include "riseml.authorityName" .) | toJson }}
{{- end }}
{{- with .Values.jobs.frameworkImages }}

[kubernetes.framework_images]
{{- range $framework, $image := . }}
{{ $framework | toJson }} = {{ $image | toJson }}
{{- end }}
{{- end }}
{{- with .Values.jobs.nodeSelector }}

[kubernetes.node_selector]
{{- range $label, $value := . }}
{{ $label | toJson }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- range .Values.jobs.tolerations }}

[[kubernetes.tolerations]]
{{- range $key, $value := . }}
{{- if eq $key "tolerationSeconds" }}
{{ $key }} = {{ int64 $value }}
{{- else }}
{{ $key }} = {{ $value | toJson }}
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
