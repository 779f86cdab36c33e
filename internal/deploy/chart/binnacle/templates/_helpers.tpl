{{- define "binnacle.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "binnacle.fullname" -}}
{{- if .Values.fullnameOverride -}}{{ .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "binnacle.name" .) .Release.Name -}}{{ .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else -}}{{ printf "%s-%s" .Release.Name (include "binnacle.name" .) | trunc 40 | trimSuffix "-" }}
{{- end -}}
{{- end }}

{{- /* Sessions are found by these two: they must not depend on nameOverride. */}}
{{- define "binnacle.selector" -}}
app.kubernetes.io/name: binnacle
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "binnacle.labels" -}}
{{ include "binnacle.selector" . }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "binnacle.image" -}}
{{- $tag := default .Chart.AppVersion .Values.image.tag -}}
{{- if hasPrefix "@" $tag -}}{{ .Values.image.name }}{{ $tag }}{{ else -}}{{ .Values.image.name }}:{{ $tag }}{{ end -}}
{{- end }}

{{- define "binnacle.serviceAccount" -}}
{{- if .Values.serviceAccount.create -}}{{ default (include "binnacle.fullname" .) .Values.serviceAccount.name }}
{{- else -}}{{ default "default" .Values.serviceAccount.name }}{{- end -}}
{{- end }}

{{- define "binnacle.sessionsNamespace" -}}
{{- default (printf "%s-sessions" .Release.Namespace) .Values.sessions.namespace -}}
{{- end }}

{{- define "binnacle.hasDatabase" -}}
{{- if or .Values.postgresql.enabled .Values.database.existingSecret -}}true{{- end -}}
{{- end }}

{{- /* The hub speaks HTTPS itself. */}}
{{- define "binnacle.https" -}}
{{- if or .Values.https.existingSecret .Values.https.acme.domain -}}true{{- end -}}
{{- end }}

{{- define "binnacle.port" -}}
{{- if include "binnacle.https" . -}}443{{- else -}}8585{{- end -}}
{{- end }}

{{- define "binnacle.servicePort" -}}
{{- if .Values.service.port -}}{{ .Values.service.port }}{{- else if include "binnacle.https" . -}}443{{- else -}}80{{- end -}}
{{- end }}

{{- define "binnacle.buildersTLS" -}}
{{- default (printf "%s-builders-tls" (include "binnacle.fullname" .)) .Values.builders.tls.existingSecret -}}
{{- end }}

{{- /* What making containers takes: mounts, networks, and the files of all their users. */}}
{{- define "binnacle.builderCapabilities" -}}
[AUDIT_WRITE, CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER, FSETID, KILL, MKNOD, NET_ADMIN, NET_BIND_SERVICE, NET_RAW, SETFCAP, SETGID, SETPCAP, SETUID, SYS_ADMIN, SYS_CHROOT, SYS_PTRACE, SYS_RESOURCE]
{{- end }}

{{- define "binnacle.imagePrefix" -}}
{{- if .Values.registry.imagePrefix -}}{{ .Values.registry.imagePrefix }}
{{- else if .Values.inClusterRegistry.enabled -}}{{ .Values.inClusterRegistry.address }}/binnacle
{{- end -}}
{{- end }}

{{- /* A toleration as the hub's configuration has it: key=value:effect. */}}
{{- define "binnacle.toleration" -}}
{{ .key }}{{ if ne (default "Equal" .operator) "Exists" }}={{ .value }}{{ end }}{{ if .effect }}:{{ .effect }}{{ end }}
{{- end }}

{{- /* Spread over nodes and zones. topologySpreadConstraints would do nothing on nodes
that lack one of the labels, as those without zones do. */}}
{{- define "binnacle.spread" -}}
affinity:
  podAntiAffinity:
    preferredDuringSchedulingIgnoredDuringExecution:
      {{- range $key, $weight := dict "kubernetes.io/hostname" 100 "topology.kubernetes.io/zone" 50 }}
      - weight: {{ $weight }}
        podAffinityTerm:
          topologyKey: {{ $key }}
          labelSelector:
            matchLabels:
              {{- include "binnacle.selector" $.root | nindent 14 }}
              app.kubernetes.io/component: {{ $.component }}
          {{- with $.revision }}
          matchLabelKeys: [{{ . }}] # those that an upgrade replaces don't count
          {{- end }}
      {{- end }}
{{- end }}

{{- /* Taints that a pod is kept on a machine with, and for how long when it is lost. */}}
{{- define "binnacle.tolerations" -}}
tolerations:
  {{- with .own }}{{ toYaml . | nindent 2 }}{{ end }}
  {{- range list "not-ready" "unreachable" }}
  - {key: node.kubernetes.io/{{ . }}, operator: Exists, effect: NoExecute, tolerationSeconds: {{ $.seconds }}}
  {{- end }}
{{- end }}

{{- /* What cannot work is refused before anything is installed. */}}
{{- define "binnacle.check" -}}
{{- $many := or .Values.autoscaling.enabled (gt (int .Values.replicas) 1) -}}
{{- if and $many (not (include "binnacle.hasDatabase" .)) }}
{{- fail "replicas: more than one replica of the hub needs a database they share: set database.existingSecret to a Secret with its address (or postgresql.enabled for trying out)" }}
{{- end }}
{{- if and .Values.database.existingSecret .Values.postgresql.enabled }}
{{- fail "database.existingSecret, postgresql.enabled: choose one database" }}
{{- end }}
{{- if and .Values.https.existingSecret .Values.https.acme.domain }}
{{- fail "https: choose a certificate of yours (existingSecret) or one by ACME (acme.domain)" }}
{{- end }}
{{- if and .Values.https.acme.domain (not .Values.hub.persistence.enabled) (not (include "binnacle.hasDatabase" .)) }}
{{- fail "https.acme: needs hub.persistence.enabled or a database, or every restart asks for a new certificate and the authority refuses" }}
{{- end }}
{{- if and .Values.ingress.enabled (not .Values.ingress.hosts) }}
{{- fail "ingress.hosts: name the host people reach the hub by, for example [hub.example.org]" }}
{{- end }}
{{- if and .Values.httpRoute.enabled (or (not .Values.httpRoute.parentRefs) (not .Values.httpRoute.hostnames)) }}
{{- fail "httpRoute: needs parentRefs (the gateway) and hostnames, for example [hub.example.org]" }}
{{- end }}
{{- if and (gt (int .Values.builders.replicas) 0) (not (include "binnacle.imagePrefix" .)) }}
{{- fail "registry.imagePrefix: builders push images to a registry that the nodes fetch them from: set it, for example registry.example.org/binnacle (or inClusterRegistry.enabled for trying out, or builders.replicas: 0)" }}
{{- end }}
{{- if and .Values.inClusterRegistry.enabled (not .Values.registry.imagePrefix) (not .Values.inClusterRegistry.address) }}
{{- fail "inClusterRegistry.address: name a node's address and inClusterRegistry.nodePort, for example 192.0.2.10:30500: pods and nodes reach the registry by it" }}
{{- end }}
{{- if and (gt (int .Values.scheduling.userPlaceholder.replicas) 0) (not .Values.scheduling.podPriority.enabled) }}
{{- fail "scheduling.userPlaceholder: needs scheduling.podPriority.enabled, else placeholders keep sessions out instead of keeping room for them" }}
{{- end }}
{{- if and .Values.builders.userNamespace (semverCompare "<1.33-0" .Capabilities.KubeVersion.Version) }}
{{- fail (printf "builders.userNamespace: needs Kubernetes 1.33, and this is %s, which may run builders as root of the node all the same" .Capabilities.KubeVersion.Version) }}
{{- end }}
{{- if eq (include "binnacle.sessionsNamespace" .) .Release.Namespace }}
{{- fail "sessions.namespace: must not be the release's own namespace: sessions must not share one with the hub's Secrets" }}
{{- end }}
{{- end }}

{{- define "binnacle.url" -}}
{{- if .Values.url -}}{{ .Values.url }}
{{- else if .Values.https.acme.domain -}}https://{{ .Values.https.acme.domain }}
{{- else if .Values.ingress.enabled -}}{{ if .Values.ingress.tls }}https{{ else }}http{{ end }}://{{ first .Values.ingress.hosts }}
{{- else if .Values.httpRoute.enabled -}}https://{{ first .Values.httpRoute.hostnames }}
{{- /* Nobody outside reaches it but by the port-forward that the notes tell. */ -}}
{{- else if and (eq .Values.service.type "ClusterIP") (not (include "binnacle.https" .)) -}}http://127.0.0.1:8585
{{- else -}}http{{ if include "binnacle.https" . }}s{{ end }}://{{ include "binnacle.fullname" . }}.{{ .Release.Namespace }}.svc
{{- end -}}
{{- end }}

{{- /* What of it concerns builders, and no more: they run what strangers wrote. They begin again when it changes. */}}
{{- define "binnacle.buildConfig" -}}
{{- $all := include "binnacle.config" . | fromYaml }}
{{- $config := pick $all "data" "log" "ca_bundle" "outbound_proxy" "base" "build" "mirrors" "network" }}
{{- with $all.source }}{{ $_ := set $config "source" (pick . "allow" "deny") }}{{ end }}
{{- with $all.launch }}{{ if hasKey . "disk_budget" }}{{ $_ := set $config "launch" (pick . "disk_budget") }}{{ end }}{{ end }}
{{- with $all.kubernetes.registry }}{{ $_ := set $config "kubernetes" (dict "registry" (omit . "docker_config")) }}{{ end }}
{{- toYaml $config }}
{{- end }}

{{- /* The hub's configuration: what follows from values, with config laid over it. */}}
{{- define "binnacle.config" -}}
{{- $session := dict
  "namespace" (include "binnacle.sessionsNamespace" .)
  "instance" .Release.Name
  "node_selector" .Values.sessions.nodeSelector
  "image_pull_secrets" .Values.sessions.imagePullSecrets
  "network" (dict "hub_namespace" .Release.Namespace "hub_labels" (dict
    "app.kubernetes.io/name" "binnacle" "app.kubernetes.io/instance" .Release.Name "app.kubernetes.io/component" "hub"))
}}
{{- if .Values.sessions.runtimeClassName }}{{ $_ := set $session "runtime_class" .Values.sessions.runtimeClassName }}{{ end }}
{{- if .Values.scheduling.podPriority.enabled }}{{ $_ := set $session "priority_class" (printf "%s-session" (include "binnacle.fullname" .)) }}{{ end }}
{{- $tolerations := list }}
{{- range .Values.sessions.tolerations }}{{ $tolerations = append $tolerations (include "binnacle.toleration" .) }}{{ end }}
{{- if $tolerations }}{{ $_ := set $session "tolerations" $tolerations }}{{ end }}
{{- $kube := dict "enabled" true "namespace" .Release.Namespace "session" $session }}
{{- with include "binnacle.imagePrefix" . }}
{{- $registry := dict "image_prefix" . "insecure" (or $.Values.registry.insecure (and $.Values.inClusterRegistry.enabled (not $.Values.registry.imagePrefix))) }}
{{- if $.Values.registry.existingSecret }}{{ $_ := set $registry "docker_config" "/etc/binnacle/registry/config.json" }}{{ end }}
{{- $_ := set $kube "registry" $registry }}
{{- end }}
{{- if gt (int .Values.builders.replicas) 0 }}
{{- $_ := set $kube "builders" (dict "service" (printf "%s-builders" (include "binnacle.fullname" .)) "tls" "/etc/binnacle/tls") }}
{{- end }}
{{- $config := dict "data" "/var/lib/binnacle" "listen" (printf "0.0.0.0:%s" (include "binnacle.port" .)) "url" (include "binnacle.url" .) "kubernetes" $kube "log" (dict "format" "json") }}
{{- /* One machine's limits mean nothing here: the cluster says when it is full, and builders share builds. */}}
{{- $_ := set $config "launch" (dict "max_sessions" 100000 "max_starts" 50 "max_builds" (max 1 (mul 4 (int .Values.builders.replicas)))) }}
{{- if .Values.caBundle.configMap }}{{ $_ := set $config "ca_bundle" "/etc/binnacle/ca/ca.pem" }}{{ end }}
{{- if .Values.https.existingSecret }}{{ $_ := set $config "tls" (dict "cert" "/etc/binnacle/https/tls.crt" "key" "/etc/binnacle/https/tls.key") }}{{ end }}
{{- with .Values.https.acme }}{{ if .domain }}{{ $_ := set $config "tls" (dict "acme" .) }}{{ end }}{{ end }}
{{- if include "binnacle.https" . }}{{ $_ := set $config.tls "redirect" "0.0.0.0:80" }}{{ end }}
{{- toYaml (mergeOverwrite $config (deepCopy .Values.config)) }}
{{- end }}
