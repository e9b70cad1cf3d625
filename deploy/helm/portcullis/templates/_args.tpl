{{/* The flags of `portcullis run`: those with a value, and switches. A test compares them with its help. */}}
{{- define "portcullis.flags" -}}
valued: [access-log, access-log-path, admin, allow-response-header, annotations-prefix, cluster-domain, config, configmap, context, controller-class, default-backend-service,
  default-ssl-certificate, election-id, http, https, ingress-class, kubeconfig, log, port,
  public-http-port, public-https-port, publish-service, publish-status-address, state-dir, upstream, watch-namespace, watch-timeout,
  workers, zone]
switches: [allow-external-name, enable-ssl-passthrough, ingress-class-by-name, ingress-nginx-metrics, keep-encoded-slashes, kubernetes, no-hsts, publish-node-addresses,
  serve-nginx-class, watch-ingress-without-class]
{{- end }}

{{/* What the pod is started with: what the chart's values say, and over it extraArgs. */}}
{{- define "portcullis.args" -}}
{{- $controller := .Values.controller }}
{{- $flags := include "portcullis.flags" . | fromYaml }}
{{- $args := dict "kubernetes" true
  "http" (printf "[::]:%s" (include "portcullis.port" (dict "root" . "of" "http")))
  "https" (printf "[::]:%s" (include "portcullis.port" (dict "root" . "of" "https")))
  "ingress-class" $controller.ingressClass
  "controller-class" $controller.ingressClassResource.controllerValue
  "election-id" (include "portcullis.election" .) }}
{{- if or $controller.ingressClassByName .Values.rbac.scope }}{{ $_ := set $args "ingress-class-by-name" true }}{{ end }}
{{- if $controller.watchIngressWithoutClass }}{{ $_ := set $args "watch-ingress-without-class" true }}{{ end }}
{{- if $controller.serveNginxClass }}{{ $_ := set $args "serve-nginx-class" true }}{{ end }}
{{- if $controller.accessLog }}{{ $_ := set $args "access-log" $controller.accessLog }}{{ end }}
{{- if $controller.scope.enabled }}{{ $_ := set $args "watch-namespace" (include "portcullis.watched" .) }}{{ end }}
{{- if include "portcullis.configured" . }}{{ $_ := set $args "configmap" (printf "$(POD_NAMESPACE)/%s" (include "portcullis.controller" .)) }}{{ end }}
{{- if $controller.metrics.ingressNginxNames }}{{ $_ := set $args "ingress-nginx-metrics" true }}{{ end }}
{{- if $controller.service.enabled }}
{{- range $name, $usual := dict "http" 80 "https" 443 }}
{{- $port := get $controller.service.ports $name | int }}
{{- if ne $port $usual }}{{ $_ := set $args (printf "public-%s-port" $name) $port }}{{ end }}
{{- end }}
{{- end }}
{{- $publish := include "portcullis.publish" . | fromYaml }}
{{- $args = merge (deepCopy $controller.extraArgs) $publish $args }}
{{- range $name := keys $args | sortAlpha }}
{{- $value := get $args $name }}
{{- if kindIs "invalid" $value }}
{{- else if has $name $flags.switches }}
{{- if or (eq (toString $value) "") (eq (toString $value) "true") }}
- {{ printf "--%s" $name | quote }}
{{- else if ne (toString $value) "false" }}
{{- fail (printf "controller.extraArgs.%s is a switch: give it true or \"\"" $name) }}
{{- end }}
{{- else if has $name $flags.valued }}
{{- if kindIs "float64" $value }}{{ $value = int64 $value }}{{ end }}
- {{ printf "--%s=%s" $name (toString $value) | quote }}
{{- else }}
{{- fail (printf "controller.extraArgs.%s: `portcullis run` has no flag --%s. It has: %s" $name $name (concat $flags.valued $flags.switches | sortAlpha | join ", ")) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Whose addresses statuses show; nothing where extraArgs say it. */}}
{{- define "portcullis.publish" -}}
{{- $controller := .Values.controller }}
{{- $given := $controller.extraArgs }}
{{- $service := $controller.service }}
{{- $override := $controller.publishService.pathOverride }}
{{- if or (hasKey $given "publish-service") (hasKey $given "publish-status-address") (hasKey $given "publish-node-addresses") }}
{{- else if not $controller.publishService.enabled }}
{{- else if $override }}
publish-service: {{ $override | quote }}
{{- else if and $service.enabled $service.external.enabled }}
publish-service: "$(POD_NAMESPACE)/{{ include "portcullis.controller" . }}"
{{- else if and $service.enabled $service.internal.enabled }}
publish-service: "$(POD_NAMESPACE)/{{ include "portcullis.controller" . }}-internal"
{{- else if and (include "portcullis.nodes" .) (not .Values.rbac.scope) }}
publish-node-addresses: true
{{- end }}
{{- end }}
