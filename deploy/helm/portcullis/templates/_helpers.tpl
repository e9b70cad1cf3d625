{{- define "portcullis.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "portcullis.fullname" -}}
{{- $name := include "portcullis.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* A value as a text; Helm has whole numbers as others. */}}
{{- define "portcullis.text" -}}
{{- if kindIs "float64" . }}{{ int64 . | toString | quote }}{{ else }}{{ toString . | quote }}{{ end }}
{{- end }}

{{/* "true" where there is a ConfigMap with what holds for all Ingresses. */}}
{{- define "portcullis.configured" -}}
{{- $controller := .Values.controller }}
{{- if or $controller.config $controller.addHeaders $controller.proxySetHeaders }}true{{ end }}
{{- end }}

{{- define "portcullis.controller" -}}
{{ include "portcullis.fullname" . }}-{{ .Values.controller.name }}
{{- end }}

{{- define "portcullis.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride }}
{{- end }}

{{- define "portcullis.account" -}}
{{- $name := ternary (include "portcullis.fullname" .) "default" .Values.serviceAccount.create }}
{{- default $name .Values.serviceAccount.name }}
{{- end }}

{{/* By which the pods of this release are found; may not change in its life. */}}
{{- define "portcullis.selector" -}}
app.kubernetes.io/name: {{ include "portcullis.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: controller
{{- end }}

{{- define "portcullis.labels" -}}
{{ include "portcullis.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{/* Name, namespace and labels of an object that is named after the controller. */}}
{{- define "portcullis.metadata" -}}
name: {{ include "portcullis.controller" . }}
namespace: {{ include "portcullis.namespace" . }}
labels:
  {{- include "portcullis.labels" . | nindent 2 }}
{{- end }}

{{- define "portcullis.image" -}}
{{- $image := .Values.controller.image }}
{{- $registry := default .Values.global.image.registry $image.registry }}
{{- $name := ternary (printf "%s/%s" $registry $image.image) $image.image (not (empty $registry)) }}
{{- $name = default $name $image.repository }}
{{- $name }}:{{ default .Chart.AppVersion $image.tag }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Where the pod listens; "http" or "https". */}}
{{- define "portcullis.port" -}}
{{- $port := get .root.Values.controller.containerPort .of }}
{{- $low := dict "http" 80 "https" 443 }}
{{- $high := dict "http" 8080 "https" 8443 }}
{{- default (get (ternary $low $high .root.Values.controller.hostNetwork) .of) $port }}
{{- end }}

{{/* Whether the ports can only be opened by root: "true" or nothing. */}}
{{- define "portcullis.root" -}}
{{- $http := int (include "portcullis.port" (dict "root" . "of" "http")) }}
{{- $https := int (include "portcullis.port" (dict "root" . "of" "https")) }}
{{- $image := .Values.controller.image }}
{{- if and (or (lt $http 1024) (lt $https 1024)) (not $image.runAsNonRoot) (kindIs "invalid" $image.runAsUser) }}true{{ end }}
{{- end }}

{{/* Whether clients reach the pods at ports of nodes: "true" or nothing. */}}
{{- define "portcullis.nodes" -}}
{{- if or .Values.controller.hostNetwork .Values.controller.hostPort.enabled }}true{{ end }}
{{- end }}

{{- define "portcullis.watched" -}}
{{- default (include "portcullis.namespace" .) .Values.controller.scope.namespace }}
{{- end }}

{{- define "portcullis.election" -}}
{{- $given := get .Values.controller.extraArgs "election-id" }}
{{- default (printf "%s-leader" (include "portcullis.fullname" .)) (default .Values.controller.electionID $given) }}
{{- end }}
