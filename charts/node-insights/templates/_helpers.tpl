{{/* Name of the application, for labels. */}}
{{- define "node-insights.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
Name of every object: the release's when it says what it is, else both. At most 63 characters, which is
what the name of a Service may have.
*/}}
{{- define "node-insights.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains (include "node-insights.name" .) .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "node-insights.name" .) | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* What the pods of this release have in common, the one of `helm test` included. */}}
{{- define "node-insights.releaseLabels" -}}
app.kubernetes.io/name: {{ include "node-insights.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* What selects the operator's pods. It can never change: a Deployment's selector is fixed. */}}
{{- define "node-insights.selectorLabels" -}}
{{ include "node-insights.releaseLabels" . }}
app.kubernetes.io/component: operator
{{- end }}

{{/*
Labels of every object. What is in commonLabels gives way to the chart's own, and no key stands twice: a
server-side apply refuses that.
*/}}
{{- define "node-insights.labels" -}}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" (.Chart.AppVersion | replace "+" "_" | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/managed-by" .Release.Service
}}
{{- $own = merge (include "node-insights.releaseLabels" . | fromYaml) $own (deepCopy .Values.commonLabels) }}
{{- toYaml $own }}
{{- end }}

{{/* Labels of the operator's pods. */}}
{{- define "node-insights.podLabels" -}}
{{- $own := include "node-insights.labels" . | fromYaml }}
{{- $own = omit $own "helm.sh/chart" "app.kubernetes.io/managed-by" }}
{{- $selector := include "node-insights.selectorLabels" . | fromYaml }}
{{- toYaml (merge $selector (deepCopy .Values.podLabels) $own) }}
{{- end }}

{{- define "node-insights.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "node-insights.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- required "serviceAccount.create is false: serviceAccount.name must say which account the operator runs as" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* registry/repository:tag@digest; with a digest the tag is for people. */}}
{{- define "node-insights.image" -}}
{{- $registry := .Values.global.imageRegistry | default .Values.image.registry }}
{{- with $registry }}{{ trimSuffix "/" . }}/{{ end }}
{{- .Values.image.repository }}:{{ .Values.image.tag | default .Chart.AppVersion }}
{{- with .Values.image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* Where the certificate of the metrics port is mounted. */}}
{{- define "node-insights.certificateFolder" -}}
/etc/node-insights/tls
{{- end }}

{{/*
Whether an object for the Prometheus Operator is rendered, by its mode: "true" or nothing. Takes the root,
the values of the object and where they are.
*/}}
{{- define "node-insights.monitor" -}}
{{- if .monitor.enabled }}
{{- $served := .root.Capabilities.APIVersions.Has "monitoring.coreos.com/v1" }}
{{- if or $served (eq .monitor.mode "alwaysRender") }}
{{- true }}
{{- else if eq .monitor.mode "failIfMissing" }}
{{- fail (printf "%s.enabled is true, and the cluster does not serve monitoring.coreos.com/v1: install the Prometheus Operator first, or set %s.mode to skipIfMissing" .name .name) }}
{{- end }}
{{- end }}
{{- end }}

{{/* A duration of hours, minutes and seconds, as in 1h30m, in seconds. */}}
{{- define "node-insights.seconds" -}}
{{- $hours := regexFind "[0-9]+h" . | trimSuffix "h" | int64 }}
{{- $minutes := regexFind "[0-9]+m" . | trimSuffix "m" | int64 }}
{{- $seconds := regexFind "[0-9]+s" . | trimSuffix "s" | int64 }}
{{- add (mul $hours 3600) (mul $minutes 60) $seconds }}
{{- end }}

{{/* What both monitors say of how to scrape. Takes what node-insights.monitor takes. */}}
{{- define "node-insights.scrape" -}}
port: https-metrics
path: /metrics
scheme: https
{{- with .monitor.interval }}
interval: {{ . }}
{{- end }}
{{- with .monitor.scrapeTimeout }}
scrapeTimeout: {{ . }}
{{- end }}
tlsConfig:
  {{- $fullname := include "node-insights.fullname" .root }}
  {{- if .monitor.tlsConfig }}
  {{- toYaml .monitor.tlsConfig | nindent 2 }}
  {{- else if .root.Values.metrics.certificate.secretName }}
  serverName: {{ $fullname }}.{{ .root.Release.Namespace }}.svc
  ca:
    secret:
      name: {{ .root.Values.metrics.certificate.secretName }}
      key: ca.crt
  {{- else }}
  # The operator makes itself a new certificate at each start: there is nothing to check it by.
  insecureSkipVerify: true
  {{- end }}
{{- with .monitor.metricRelabelings }}
metricRelabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .monitor.relabelings }}
relabelings:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/*
Flags that decide which permissions the operator needs, of the operator and of doctor.
*/}}
{{- define "node-insights.needs" -}}
{{- $fullname := include "node-insights.fullname" . -}}
- --platform={{ .Values.platform }}
- --lease={{ .Values.leaderElection.enabled | ternary (printf "$(POD_NAMESPACE)/%s" $fullname) "off" }}
- --sync-status=configmap:$(POD_NAMESPACE)/{{ $fullname }}-sync-status
- --enable-events={{ .Values.events.enabled }}
{{- end }}
