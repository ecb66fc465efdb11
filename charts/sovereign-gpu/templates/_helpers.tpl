{{- define "sovereign-gpu.selectorLabels" -}}
app.kubernetes.io/name: sovereign-gpu
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "sovereign-gpu.labels" -}}
{{ include "sovereign-gpu.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "sovereign-gpu.image" -}}
{{- $image := .Values.image -}}
{{- if $image.digest -}}
{{ $image.repository }}@{{ $image.digest }}
{{- else -}}
{{ $image.repository }}:{{ $image.tag | default .Chart.AppVersion }}
{{- end -}}
{{- end }}

{{/* The user name under which the admission policies know the operator. */}}
{{- define "sovereign-gpu.operatorUser" -}}
{{ printf "system:serviceaccount:%s:%s" .Release.Namespace .Values.serviceAccount.name }}
{{- end }}

{{/* The exempt service accounts as user names, a CEL list. */}}
{{- define "sovereign-gpu.exemptUsers" -}}
{{- $users := list -}}
{{- range .Values.admission.exemptServiceAccounts -}}
{{- $users = append $users (printf "system:serviceaccount:%s" .) -}}
{{- end -}}
{{ $users | toJson }}
{{- end }}

{{/* The settings of the admission policies, as the operator reads them. */}}
{{- define "sovereign-gpu.admission" -}}
{{- $a := .Values.admission -}}
{{ dict "namespace" .Release.Namespace "service_account" .Values.serviceAccount.name "exempt_namespaces" $a.exemptNamespaces "exempt_service_accounts" $a.exemptServiceAccounts "scheduler_users" $a.schedulerUsers "known_resources" $a.knownResources "allowed_host_paths" $a.allowedHostPaths "gpu_taint" $a.gpuTaint "endpoint_users" $a.endpointUsers "gpu_device_classes" $a.gpuDeviceClasses "country_claim" $a.countryClaim | toJson }}
{{- end }}

{{- define "sovereign-gpu.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{- define "sovereign-gpu.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
