{{- define "portcullis.pod" -}}
{{- $controller := .Values.controller }}
{{- $image := $controller.image }}
{{- $root := include "portcullis.root" . }}
{{- $loopback := and $controller.hostNetwork (not $controller.metrics.enabled) -}}
metadata:
  # Nothing here may change with a version: by these labels a replica that ends finds out whether
  # others go on serving.
  labels:
    {{- include "portcullis.selector" . | nindent 4 }}
    {{- with $controller.podLabels }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $controller.podAnnotations }}
  annotations:{{ toYaml . | nindent 4 }}
  {{- end }}
spec:
  serviceAccountName: {{ include "portcullis.account" . }}
  automountServiceAccountToken: {{ .Values.serviceAccount.automountServiceAccountToken }}
  {{- with .Values.imagePullSecrets }}
  imagePullSecrets:{{ toYaml . | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ $controller.terminationGracePeriodSeconds }}
  {{- if $controller.hostNetwork }}
  hostNetwork: true
  {{- end }}
  {{- $dns := default (ternary "ClusterFirstWithHostNet" "" $controller.hostNetwork) $controller.dnsPolicy }}
  {{- with $dns }}
  dnsPolicy: {{ . }}
  {{- end }}
  {{- range $key := list "dnsConfig" "hostAliases" "nodeSelector" "tolerations" "affinity" "priorityClassName" "runtimeClassName" }}
  {{- with get $controller $key }}
  {{ $key }}:{{ toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- if $controller.topologySpreadConstraints }}
  topologySpreadConstraints:{{ toYaml $controller.topologySpreadConstraints | nindent 4 }}
  {{- else if eq $controller.kind "Deployment" }}
  topologySpreadConstraints:
    - maxSkew: 1
      topologyKey: kubernetes.io/hostname
      whenUnsatisfiable: ScheduleAnyway
      labelSelector: { matchLabels: {{ include "portcullis.selector" . | fromYaml | toJson }} }
  {{- end }}
  securityContext:
    runAsNonRoot: {{ not $root }}
    runAsUser: {{ kindIs "invalid" $image.runAsUser | ternary (ternary 0 65532 (eq $root "true")) (int64 (default 0 $image.runAsUser)) }}
    runAsGroup: {{ kindIs "invalid" $image.runAsGroup | ternary (ternary 0 65532 (eq $root "true")) (int64 (default 0 $image.runAsGroup)) }}
    seccompProfile:{{ toYaml $image.seccompProfile | nindent 6 }}
    {{- with $controller.sysctls }}
    sysctls:
      {{- range $name, $value := . }}
      - { name: {{ $name }}, value: {{ $value | quote }} }
      {{- end }}
    {{- end }}
    {{- with $controller.podSecurityContext }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $controller.extraInitContainers }}
  initContainers:{{ toYaml . | nindent 4 }}
  {{- end }}
  containers:
    - name: {{ $controller.containerName }}
      image: {{ include "portcullis.image" . | quote }}
      imagePullPolicy: {{ $image.pullPolicy }}
      args:
        - run
        {{- include "portcullis.args" . | trim | nindent 8 }}
      env:
        - { name: POD_NAME, valueFrom: { fieldRef: { fieldPath: metadata.name } } }
        - { name: POD_NAMESPACE, valueFrom: { fieldRef: { fieldPath: metadata.namespace } } }
        {{- if $loopback }}
        # On the node's loopback, where the probes find it: elsewhere it would be open to all who
        # reach the node.
        - { name: PORTCULLIS_ADMIN, value: "127.0.0.1:{{ $controller.metrics.port }}" }
        {{- else if $controller.hostNetwork }}
        - { name: HOST_IP, valueFrom: { fieldRef: { fieldPath: status.hostIP } } }
        - { name: PORTCULLIS_ADMIN, value: "$(HOST_IP):{{ $controller.metrics.port }}" }
        {{- else }}
        - { name: PORTCULLIS_ADMIN, value: "[::]:{{ $controller.metrics.port }}" }
        {{- end }}
        {{- with $controller.extraEnvs }}{{ toYaml . | nindent 8 }}{{ end }}
      ports:
        {{- range $name := list "http" "https" }}
        - name: {{ $name }}
          containerPort: {{ include "portcullis.port" (dict "root" $ "of" $name) }}
          {{- if $controller.hostPort.enabled }}
          hostPort: {{ get $controller.hostPort.ports $name }}
          {{- end }}
        {{- end }}
        - name: admin
          containerPort: {{ $controller.metrics.port }}
      {{- range $probe, $path := dict "livenessProbe" "/healthz" "readinessProbe" "/readyz" "startupProbe" "/healthz" }}
      {{- with get $controller $probe }}
      {{ $probe }}:
        httpGet: { path: {{ $path }}, port: admin{{ if $loopback }}, host: 127.0.0.1{{ end }} }
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- end }}
      {{- with $controller.lifecycle }}
      lifecycle:{{ toYaml . | nindent 8 }}
      {{- end }}
      resources:{{ toYaml $controller.resources | nindent 8 }}
      securityContext:
        {{- if $controller.containerSecurityContext }}
        {{- toYaml $controller.containerSecurityContext | nindent 8 }}
        {{- else }}
        allowPrivilegeEscalation: {{ $image.allowPrivilegeEscalation }}
        readOnlyRootFilesystem: {{ $image.readOnlyRootFilesystem }}
        capabilities: { drop: [ALL]{{ if $root }}, add: [NET_BIND_SERVICE]{{ end }} }
        {{- end }}
      {{- with $controller.extraVolumeMounts }}
      volumeMounts:{{ toYaml . | nindent 8 }}
      {{- end }}
    {{- with $controller.extraContainers }}{{ toYaml . | nindent 4 }}{{ end }}
  {{- with $controller.extraVolumes }}
  volumes:{{ toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
