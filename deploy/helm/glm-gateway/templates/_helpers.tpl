{{- define "glm-gateway.name" -}}
{{- $long := printf "%s-%s" .Release.Name .Chart.Name }}
{{- contains .Chart.Name .Release.Name | ternary .Release.Name $long | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "glm-gateway.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "glm-gateway.labels" -}}
{{ include "glm-gateway.selector" . }}
app.kubernetes.io/version: {{ .Values.image.tag | default .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "glm-gateway.image" -}}
{{ .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- end }}

{{- define "glm-gateway.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: { type: RuntimeDefault }
{{- end }}

{{- define "glm-gateway.containerSecurity" -}}
readOnlyRootFilesystem: true
allowPrivilegeEscalation: false
capabilities: { drop: [ALL] }
{{- end }}

{{- define "glm-gateway.environment" -}}
- { name: HOST, value: 0.0.0.0 }
- { name: PORT, value: "8000" }
- { name: GLM_GATEWAY_DATA_DIR, value: /var/lib/glm-gateway }
- { name: GLM_GATEWAY_SERVER__DRAIN_SECONDS, value: {{ .Values.drainSeconds | quote }} }
{{- range $name, $value := .Values.settings }}
- { name: {{ $name }}, value: {{ $value | toString | quote }} }
{{- end }}
{{- range .Values.secret.files }}
- { name: {{ . }}_FILE, value: /run/secrets/glm-gateway/{{ . }} }
{{- end }}
{{- range .Values.secret.environment }}
- name: {{ . }}
  valueFrom: { secretKeyRef: { name: {{ $.Values.secret.name }}, key: {{ . }} } }
{{- end }}
{{- end }}

{{- define "glm-gateway.mounts" -}}
- { name: data, mountPath: /var/lib/glm-gateway }
- { name: tmp, mountPath: /tmp }
- { name: secrets, mountPath: /run/secrets/glm-gateway, readOnly: true }
{{- end }}

{{- define "glm-gateway.volumes" -}}
- name: tmp
  emptyDir: { sizeLimit: 256Mi }
- name: secrets
  secret: { secretName: {{ .Values.secret.name }}, defaultMode: 0440 }
{{- end }}
