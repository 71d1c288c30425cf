{{/* The name of the application, for labels. */}}
{{- define "node-insights.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/*
The name of every object: that of the release if it contains that of the chart, otherwise both. At most 63
characters, the limit for a Service.
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

{{/* The labels that all pods of this release have in common, including that of `helm test`. */}}
{{- define "node-insights.releaseLabels" -}}
app.kubernetes.io/name: {{ include "node-insights.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The selector of the operator's pods. It can never change: a Deployment's selector is immutable. */}}
{{- define "node-insights.selectorLabels" -}}
{{ include "node-insights.releaseLabels" . }}
app.kubernetes.io/component: operator
{{- end }}

{{/*
The labels of every object. The chart's own take precedence over commonLabels, and no key is duplicate, which
server-side apply would reject.
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

{{/* The labels of the operator's pods. */}}
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

{{/* registry/repository:tag@digest; with a digest the tag is only informative. */}}
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
Whether an object for the Prometheus Operator is rendered, by its mode: "true" or empty. Takes the root, the
values of the object and their path.
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

{{/* Converts a duration of hours, minutes and seconds, as in 1h30m, to seconds. */}}
{{- define "node-insights.seconds" -}}
{{- $hours := regexFind "[0-9]+h" . | trimSuffix "h" | int64 }}
{{- $minutes := regexFind "[0-9]+m" . | trimSuffix "m" | int64 }}
{{- $seconds := regexFind "[0-9]+s" . | trimSuffix "s" | int64 }}
{{- add (mul $hours 3600) (mul $minutes 60) $seconds }}
{{- end }}

{{/* The scrape configuration of both monitors. Same arguments as node-insights.monitor. */}}
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
  # The operator generates a new self-signed certificate at each start, which cannot be verified.
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
Flags of the operator and of doctor that determine the permissions which the operator needs.
*/}}
{{- define "node-insights.needs" -}}
{{- $fullname := include "node-insights.fullname" . -}}
- --platform={{ .Values.platform }}
{{- $disabled := list }}
{{- range $name, $provider := .Values.providers }}
{{- if not $provider.enabled }}
{{- $disabled = append $disabled $name }}
{{- end }}
{{- end }}
{{- with $disabled }}
- --disabled-providers={{ join "," . }}
{{- end }}
- --lease={{ .Values.leaderElection.enabled | ternary (printf "$(POD_NAMESPACE)/%s" $fullname) "off" }}
- --sync-status=configmap:$(POD_NAMESPACE)/{{ $fullname }}-sync-status
- --enable-events={{ .Values.events.enabled }}
- --enable-drain-blockers={{ .Values.drainBlockers.enabled }}
{{- end }}
