{{/* Labels of every object. */}}
{{- define "tierce.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
app.kubernetes.io/name: tierce
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: tierce
{{- end }}

{{/* Labels that select the pods of a component; they never change. Takes (list $ component). */}}
{{- define "tierce.selector" -}}
app.kubernetes.io/name: tierce
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{/* Our image of this name. Takes (list $ name). */}}
{{- define "tierce.image" -}}
{{- $image := (index . 0).Values.image -}}
{{ $image.registry }}/{{ $image.repository }}/{{ index . 1 }}:{{ $image.tag | default (index . 0).Chart.AppVersion }}
{{- end }}

{{/* A sidecar's image. Takes its values. */}}
{{- define "tierce.sidecarImage" -}}
{{ .image.registry }}/{{ .image.repository }}:{{ .image.tag }}
{{- end }}

{{/*
Labels of the nodes that pods may run on: all of ours are programs for Linux, and a cluster may have other nodes. Takes the labels
asked for.
*/}}
{{- define "tierce.nodeSelector" -}}
{{- merge (deepCopy .) (dict "kubernetes.io/os" "linux") | toYaml -}}
{{- end }}

{{/* Security of a pod under the restricted Pod Security Standard. */}}
{{- define "tierce.restrictedPod" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end }}

{{/* Security of a container under the restricted Pod Security Standard. */}}
{{- define "tierce.restrictedContainer" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end }}
