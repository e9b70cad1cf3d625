{{/* "true" where there is a value at a path such as a.b.c that is not empty or off. */}}
{{- define "portcullis.found" -}}
{{- $at := .values }}
{{- range splitList "." .path }}
{{- $at = ternary (get (ternary $at dict (kindIs "map" $at)) .) nil (kindIs "map" $at) }}
{{- end }}
{{- if $at }}true{{ end }}
{{- end }}

{{/* Fails where values cannot be what was meant. */}}
{{- define "portcullis.validate" -}}
{{- $root := . }}
{{- range $path, $why := (.Files.Get "files/ingress-nginx-values.yaml" | fromYaml).refused }}
{{- if include "portcullis.found" (dict "values" $root.Values "path" $path) }}
{{- fail (printf "%s means nothing to Portcullis. %s" $path $why) }}
{{- end }}
{{- end }}
{{- $controller := .Values.controller }}
{{- if contains "ingress-nginx" (include "portcullis.image" .) }}
{{- fail (printf "controller.image says %s, which is ingress-nginx itself." (include "portcullis.image" .)) }}
{{- end }}
{{- if and .Values.rbac.scope (not $controller.scope.enabled) }}
{{- fail "rbac.scope makes Roles alone, which only suffice for one namespace: set controller.scope.enabled, too." }}
{{- end }}
{{- if and $controller.autoscaling.enabled (ne $controller.kind "Deployment") }}
{{- fail "controller.autoscaling is for a Deployment: a DaemonSet has as many pods as there are nodes." }}
{{- end }}
{{- if and $controller.hostNetwork $controller.hostPort.enabled }}
{{- fail "controller.hostPort is for pods with a network of their own; with controller.hostNetwork every port is the node's." }}
{{- end }}
{{- range $what, $is := dict "serviceMonitor" $controller.metrics.serviceMonitor.enabled "prometheusRule" $controller.metrics.prometheusRule.enabled }}
{{- if and $is (not $controller.metrics.enabled) }}
{{- fail (printf "controller.metrics.%s wants controller.metrics.enabled." $what) }}
{{- end }}
{{- end }}
{{- if and (not $controller.service.enableHttp) (not $controller.service.enableHttps) $controller.service.enabled }}
{{- fail "controller.service.enableHttp and enableHttps are both off: such a Service has no port." }}
{{- end }}
{{- end }}
