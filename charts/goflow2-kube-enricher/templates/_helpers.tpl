{{- define "kube-enricher.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of all objects. 50 characters leave room for what is appended. */}}
{{- define "kube-enricher.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- $name := include "kube-enricher.name" . }}
{{- if contains $name .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{/* Objects outside of namespaces have the namespace in their names: there may be a release of the same name in another one. */}}
{{- define "kube-enricher.clusterName" -}}
{{- printf "%s-%s" .Release.Namespace (include "kube-enricher.fullname" .) }}
{{- end }}

{{- define "kube-enricher.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kube-enricher.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* metadata of an object. Called with root, and name, namespace, labels, annotations as they differ. */}}
{{- define "kube-enricher.metadata" -}}
{{- $root := .root }}
{{- $own := dict
  "helm.sh/chart" (printf "%s-%s" $root.Chart.Name ($root.Chart.Version | replace "+" "_") | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/version" ($root.Values.image.tag | default $root.Chart.AppVersion | trunc 63 | trimSuffix "-")
  "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- $selector := include "kube-enricher.selectorLabels" $root | fromYaml }}
{{- $annotations := merge (dict) (.annotations | default dict) $root.Values.commonAnnotations -}}
name: {{ .name | default (include "kube-enricher.fullname" $root) }}
{{- if not .cluster }}
namespace: {{ .namespace | default $root.Release.Namespace }}
{{- end }}
labels:
  {{- merge (dict) $selector $own (.labels | default dict) $root.Values.commonLabels | toYaml | nindent 2 }}
{{- with $annotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "kube-enricher.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default (include "kube-enricher.fullname" .) }}
{{- else }}
{{- .Values.serviceAccount.name | default "default" }}
{{- end }}
{{- end }}

{{/* "true" on OpenShift, else nothing. */}}
{{- define "kube-enricher.openshift" -}}
{{- if kindIs "bool" .Values.openshift }}
{{- if .Values.openshift }}true{{ end }}
{{- else if .Capabilities.APIVersions.Has "security.openshift.io/v1" }}true{{ end }}
{{- end }}

{{/* "true" if HTTP is on a loopback address, else nothing. The kubelet reaches that on the node's network only. */}}
{{- define "kube-enricher.loopback" -}}
{{- if or (hasPrefix "127." .Values.httpAddress) (eq .Values.httpAddress "::1") }}
{{- if ne .Values.kind "DaemonSet" }}
{{- fail "httpAddress: the kubelet cannot reach a loopback address of a Deployment's pod, so it would never be ready; use networkPolicy.metrics" }}
{{- end }}true{{- end }}
{{- end }}

{{/* HOST:PORT, as flags have it. Called with host and port. */}}
{{- define "kube-enricher.hostPort" -}}
{{- printf "%s:%d" (ternary (printf "[%s]" .host) .host (contains ":" .host)) (int .port) }}
{{- end }}

{{/* HOST:PORT of HTTP, as the flag -addr has it. */}}
{{- define "kube-enricher.httpAddr" -}}
{{- include "kube-enricher.hostPort" (dict "host" .Values.httpAddress "port" .Values.httpPort) }}
{{- end }}

{{/* Where templates are kept. OpenShift's hostnetwork-v2 allows no directories of the node. */}}
{{- define "kube-enricher.storage" -}}
{{- $daemon := eq .Values.kind "DaemonSet" }}
{{- with .Values.templates.storage }}
{{- if and (eq . "pvc") (or $daemon (gt (int $.Values.replicas) 1)) }}
{{- fail "templates.storage: pvc is for a Deployment of one replica: a file has one writer; use emptyDir" }}
{{- else if and (eq . "hostPath") (or (not $daemon) (include "kube-enricher.openshift" $)) }}
{{- fail "templates.storage: hostPath is for a DaemonSet, and not for OpenShift; use emptyDir" }}
{{- end }}
{{- . }}
{{- else }}
{{- ternary "hostPath" "emptyDir" (and $daemon (eq (include "kube-enricher.openshift" .) "")) }}
{{- end }}
{{- end }}

{{- define "kube-enricher.image" -}}
{{- if .Values.image.digest }}
{{- printf "%s@%s" .Values.image.repository .Values.image.digest }}
{{- else }}
{{- printf "%s:%s" .Values.image.repository (.Values.image.tag | default .Chart.AppVersion) }}
{{- end }}
{{- end }}

{{/* A scalar as the program's configuration file has it. Helm has all numbers as floating ones. */}}
{{- define "kube-enricher.scalar" -}}
{{- if and (kindIs "float64" .) (eq (floor .) .) }}{{ printf "%.0f" . }}{{ else }}{{ . }}{{ end }}
{{- end }}

{{/* Puts the settings of the map "in" into the map "out", nested ones under their full names. */}}
{{- define "kube-enricher.flatten" -}}
{{- $out := .out }}
{{- $prefix := .prefix }}
{{- range $key, $value := .in }}
{{- $name := printf "%s%s" $prefix $key }}
{{- if kindIs "map" $value }}
{{- include "kube-enricher.flatten" (dict "in" $value "prefix" (printf "%s." $name) "out" $out) }}
{{- else if kindIs "slice" $value }}
{{- $list := list }}
{{- range $value }}{{ $list = append $list (include "kube-enricher.scalar" .) }}{{ end }}
{{- $_ := set $out $name $list }}
{{- else if kindIs "invalid" $value }}
{{- fail (printf "%s has no value; write \"\" if it is to be empty" $name) }}
{{- else }}
{{- $_ := set $out $name (include "kube-enricher.scalar" $value) }}
{{- end }}
{{- end }}
{{- end }}

{{/* The program's configuration file. What else is wrong in it is the program's to tell. */}}
{{- define "kube-enricher.config" -}}
{{- $config := dict }}
{{- include "kube-enricher.flatten" (dict "in" .Values.config "prefix" "" "out" $config) }}
{{- include "kube-enricher.flatten" (dict "in" .Values.kafka.config "prefix" "transport.kafka." "out" $config) }}
{{- range $name := list "otlp" "http" }}
{{- include "kube-enricher.flatten" (dict "in" (index $.Values $name).config "prefix" (printf "transport.%s." $name) "out" $config) }}
{{- end }}
{{- range $flag, $value := dict
  "listen" "listen.netflow and listen.sflow" "allow" "listen.allow" "addr" "httpAddress and httpPort" "cluster" "cluster" "templates.file" "templates.storage"
  "kube.namespaces" "rbac.namespaces" "ui.addr" "ui.enabled" "hubble.addr" "hubble.enabled"
  "hubble.tls.cert" "hubble.tls.secret" "hubble.tls.key" "hubble.tls.secret" "hubble.tls.client-ca" "hubble.tls.caKey"
  "transport.kafka.brokers" "kafka.brokers" "transport.kafka.topic" "kafka.topic" "transport.kafka.sasl" "kafka.sasl.mechanism"
  "transport.kafka.tls" "kafka.tls.enabled" "transport.kafka.tls.insecure" "kafka.tls.insecure" "transport.kafka.tls.ca" "kafka.tls.caSecret"
  "transport.kafka.tls.client" "kafka.tls.clientSecret" "transport.kafka.tls.key" "kafka.tls.clientSecret"
  "transport.otlp.endpoint" "otlp.endpoint" "transport.otlp.protocol" "otlp.protocol" "transport.otlp.headers" "otlp.headers" "transport.otlp.tls.ca" "otlp.tls.caSecret"
  "transport.otlp.tls.cert" "otlp.tls.clientSecret" "transport.otlp.tls.key" "otlp.tls.clientSecret"
  "transport.http.url" "http.url" "transport.http.headers" "http.headers" "transport.http.tls.ca" "http.tls.caSecret"
  "transport.http.tls.cert" "http.tls.clientSecret" "transport.http.tls.key" "http.tls.clientSecret" }}
{{- if hasKey $config $flag }}
{{- fail (printf "config: %s is set by the value %s" $flag $value) }}
{{- end }}
{{- end }}
{{- if and .Values.ovn.enabled (or (hasKey $config "ovn.nb") (hasKey $config "ovn.sb")) }}
{{- fail "config: ovn.nb and ovn.sb are set by the value ovn.enabled" }}
{{- end }}
{{- $flags := $.Files.Lines "files/flags.txt" }}
{{- range $flag, $value := $config }}
{{- if not (has $flag $flags) }}
{{- fail (printf "config: %s is no flag that a file can set; docs/flags.md lists them" $flag) }}
{{- end }}
{{- end }}
{{- $sockets := "" }}
{{- with .Values.listen.sockets }}{{ $sockets = printf "?count=%d" (int .) }}{{ end }}
{{- $listen := list }}
{{- with .Values.listen.netflow }}{{ $listen = append $listen (printf "netflow://:%d%s" (int .) $sockets) }}{{ end }}
{{- with .Values.listen.sflow }}{{ $listen = append $listen (printf "sflow://:%d%s" (int .) $sockets) }}{{ end }}
{{- if not $listen }}
{{- fail "listen: one of netflow and sflow needs a port" }}
{{- end }}
{{- $_ := set $config "listen" $listen }}
{{- $_ := set $config "addr" (include "kube-enricher.httpAddr" .) }}
{{- with .Values.listen.allow }}{{ $_ := set $config "allow" . }}{{ end }}
{{- with .Values.cluster }}{{ $_ := set $config "cluster" . }}{{ end }}
{{- with .Values.rbac.namespaces }}{{ $_ := set $config "kube.namespaces" . }}{{ end }}
{{- with .Values.ui }}
{{- if .enabled }}{{ $_ := set $config "ui.addr" (include "kube-enricher.hostPort" (dict "host" .address "port" .port)) }}{{ end }}
{{- end }}
{{- with .Values.hubble }}
{{- if .enabled }}
{{- $_ := set $config "hubble.addr" (include "kube-enricher.hostPort" (dict "host" .address "port" .port)) }}
{{- if .tls.secret }}
{{- $_ := set $config "hubble.tls.cert" (printf "/etc/hubble/tls/%s" .tls.certKey) }}
{{- $_ := set $config "hubble.tls.key" (printf "/etc/hubble/tls/%s" .tls.keyKey) }}
{{- if .tls.caKey }}{{ $_ := set $config "hubble.tls.client-ca" (printf "/etc/hubble/tls/%s" .tls.caKey) }}{{ end }}
{{- end }}
{{- end }}
{{- end }}
{{- if .Values.ovn.enabled }}
{{- if ne .Values.kind "DaemonSet" }}
{{- fail "ovn.enabled: reads the database of the collector's node, so it is for a DaemonSet; name a central database by config.ovn.nb" }}
{{- end }}
{{- $_ := set $config "ovn.nb" "unix:/run/ovn/ovnnb_db.sock" }}
{{- if .Values.ovn.southbound }}{{ $_ := set $config "ovn.sb" "unix:/run/ovn/ovnsb_db.sock" }}{{ end }}
{{- end }}
{{- if ne (include "kube-enricher.storage" .) "none" }}
{{- $_ := set $config "templates.file" "/var/lib/kube-enricher/templates.json" }}
{{- end }}
{{- if not (hasKey $config "transport") }}
{{- $transports := list }}
{{- range $name := list "kafka" "otlp" "http" }}
{{- if (index $.Values $name).enabled }}{{ $transports = append $transports $name }}{{ end }}
{{- end }}
{{- if $transports }}{{ $_ := set $config "transport" (join "," $transports) }}{{ end }}
{{- end }}
{{- range $name, $address := dict "otlp" "endpoint" "http" "url" }}
{{- $o := index $.Values $name }}
{{- if $o.enabled }}
{{- $flag := printf "transport.%s." $name }}
{{- if not (index $o $address) }}{{ fail (printf "%s.%s: say where records go" $name $address) }}{{ end }}
{{- $_ := set $config (print $flag $address) (index $o $address) }}
{{- with $o.protocol }}{{ $_ := set $config (print $flag "protocol") . }}{{ end }}
{{- $headers := list }}
{{- range $i, $h := $o.headers }}
{{- $headers = append $headers (printf "%s=%s${file:/etc/%s/header-%d/%s}" $h.name ($h.prefix | default "" | replace "%" "%25" | replace "," "%2C") $name $i $h.key) }}
{{- end }}
{{- with $headers }}{{ $_ := set $config (print $flag "headers") (join "," .) }}{{ end }}
{{- with $o.tls.caSecret }}{{ $_ := set $config (print $flag "tls.ca") (printf "/etc/%s/ca/%s" $name $o.tls.caKey) }}{{ end }}
{{- if $o.tls.clientSecret }}
{{- $_ := set $config (print $flag "tls.cert") (printf "/etc/%s/client/%s" $name $o.tls.certKey) }}
{{- $_ := set $config (print $flag "tls.key") (printf "/etc/%s/client/%s" $name $o.tls.keyKey) }}
{{- end }}
{{- end }}
{{- end }}
{{- with .Values.kafka }}
{{- if .enabled }}
{{- if and (not .brokers) (not (hasKey $config "transport.kafka.srv")) }}
{{- fail "kafka.brokers: at least one is needed" }}
{{- end }}
{{- with .brokers }}{{ $_ := set $config "transport.kafka.brokers" . }}{{ end }}
{{- with .topic }}{{ $_ := set $config "transport.kafka.topic" . }}{{ end }}
{{- if ne .sasl.mechanism "none" }}
{{- if not .sasl.secret }}{{ fail "kafka.sasl.secret: name the Secret with user and password" }}{{ end }}
{{- $_ := set $config "transport.kafka.sasl" .sasl.mechanism }}
{{- end }}
{{- if .tls.enabled }}
{{- $_ := set $config "transport.kafka.tls" "true" }}
{{- if .tls.insecure }}{{ $_ := set $config "transport.kafka.tls.insecure" "true" }}{{ end }}
{{- if .tls.caSecret }}{{ $_ := set $config "transport.kafka.tls.ca" (printf "/etc/kafka/ca/%s" .tls.caKey) }}{{ end }}
{{- if .tls.clientSecret }}
{{- $_ := set $config "transport.kafka.tls.client" (printf "/etc/kafka/client/%s" .tls.certKey) }}
{{- $_ := set $config "transport.kafka.tls.key" (printf "/etc/kafka/client/%s" .tls.keyKey) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
{{- toYaml $config }}
{{- end }}

{{/* The Secrets of the outputs otlp and http: a list of volume, path and secret. */}}
{{- define "kube-enricher.outputSecrets" -}}
{{- $list := list }}
{{- range $name := list "otlp" "http" }}
{{- $o := index $.Values $name }}
{{- if $o.enabled }}
{{- range $i, $h := $o.headers }}
{{- $list = append $list (dict "volume" (printf "%s-header-%d" $name $i) "path" (printf "/etc/%s/header-%d" $name $i) "secret" $h.secret) }}
{{- end }}
{{- with $o.tls.caSecret }}{{ $list = append $list (dict "volume" (printf "%s-ca" $name) "path" (printf "/etc/%s/ca" $name) "secret" .) }}{{ end }}
{{- with $o.tls.clientSecret }}{{ $list = append $list (dict "volume" (printf "%s-client" $name) "path" (printf "/etc/%s/client" $name) "secret" .) }}{{ end }}
{{- end }}
{{- end }}
{{- toYaml $list }}
{{- end }}

{{/* What the collector and the test have in common of their containers. */}}
{{- define "kube-enricher.container" -}}
image: {{ include "kube-enricher.image" . }}
{{- with .Values.image.pullPolicy }}
imagePullPolicy: {{ . }}
{{- end }}
command: [/kube-enricher]
{{- $sasl := and .Values.kafka.enabled (ne .Values.kafka.sasl.mechanism "none") }}
{{- if or $sasl .Values.extraEnv }}
env:
  {{- if $sasl }}
  - name: KAFKA_SASL_USER
    valueFrom:
      secretKeyRef:
        name: {{ .Values.kafka.sasl.secret }}
        key: {{ .Values.kafka.sasl.userKey }}
  - name: KAFKA_SASL_PASS
    valueFrom:
      secretKeyRef:
        name: {{ .Values.kafka.sasl.secret }}
        key: {{ .Values.kafka.sasl.passwordKey }}
  {{- end }}
  {{- with .Values.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}
{{- with .Values.extraEnvFrom }}
envFrom:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: config
    mountPath: /etc/kube-enricher
    readOnly: true
  {{- if ne (include "kube-enricher.storage" .) "none" }}
  - name: templates
    mountPath: /var/lib/kube-enricher
  {{- end }}
  {{- if and .Values.hubble.enabled .Values.hubble.tls.secret }}
  - name: hubble-tls
    mountPath: /etc/hubble/tls
    readOnly: true
  {{- end }}
  {{- if .Values.ovn.enabled }}
  - name: ovn
    mountPath: /run/ovn
    readOnly: true
  {{- end }}
  {{- with .Values.kafka }}
  {{- if and .enabled .tls.enabled .tls.caSecret }}
  - name: kafka-ca
    mountPath: /etc/kafka/ca
    readOnly: true
  {{- end }}
  {{- if and .enabled .tls.enabled .tls.clientSecret }}
  - name: kafka-client
    mountPath: /etc/kafka/client
    readOnly: true
  {{- end }}
  {{- end }}
  {{- range $secret := include "kube-enricher.outputSecrets" . | fromYamlArray }}
  - name: {{ $secret.volume }}
    mountPath: {{ $secret.path }}
    readOnly: true
  {{- end }}
  {{- with .Values.extraVolumeMounts }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* What they have in common of their pods. The test has a scratch volume in place of the collector's: that may be in use. */}}
{{- define "kube-enricher.pod" -}}
{{- $root := .root }}
{{- $storage := include "kube-enricher.storage" $root }}
{{- if and .test (ne $storage "none") }}{{ $storage = "emptyDir" }}{{ end }}
{{- $pvc := eq $storage "pvc" -}}
serviceAccountName: {{ include "kube-enricher.serviceAccountName" $root }}
enableServiceLinks: false
{{- with $root.Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- $context := $root.Values.podSecurityContext }}
{{- if and $pvc (not (hasKey $context "fsGroup")) (not (include "kube-enricher.openshift" $root)) }}
{{- $context = merge (dict "fsGroup" 65532 "fsGroupChangePolicy" "OnRootMismatch") $context }}
{{- else if and (or (eq $storage "hostPath") (and $root.Values.ovn.enabled (not .test))) (not (hasKey $context "runAsUser")) (not (hasKey $root.Values.securityContext "runAsUser")) }}
{{- /* The kubelet makes the directory for root alone, OVN's sockets are root's, and SELinux lets only this type at them. */}}
{{- $context = merge (dict "runAsUser" 0 "runAsGroup" 0) (deepCopy $context) (dict "seLinuxOptions" (dict "type" "spc_t")) }}
{{- $_ := set $context "runAsNonRoot" false }}
{{- end }}
{{- with $context }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with $root.Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $root.Values.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- if $root.Values.tolerations }}
tolerations:
  {{- toYaml $root.Values.tolerations | nindent 2 }}
{{- else if eq $root.Values.kind "DaemonSet" }}
tolerations:
  - operator: Exists
{{- end }}
{{- with $root.Values.dnsConfig }}
dnsConfig:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumes:
  - name: config
    configMap:
      name: {{ include "kube-enricher.fullname" $root }}
  {{- if $pvc }}
  - name: templates
    persistentVolumeClaim:
      claimName: {{ $root.Values.templates.pvc.existingClaim | default (printf "%s-templates" (include "kube-enricher.fullname" $root)) }}
  {{- else if eq $storage "hostPath" }}
  - name: templates
    hostPath:
      path: {{ $root.Values.templates.hostPath | default (printf "/var/lib/kube-enricher/%s" (include "kube-enricher.clusterName" $root)) }}
      type: DirectoryOrCreate
  {{- else if eq $storage "emptyDir" }}
  - name: templates
    emptyDir:
      sizeLimit: {{ $root.Values.templates.size }}
  {{- end }}
  {{- if and $root.Values.hubble.enabled $root.Values.hubble.tls.secret }}
  - name: hubble-tls
    secret:
      secretName: {{ $root.Values.hubble.tls.secret }}
  {{- end }}
  {{- if $root.Values.ovn.enabled }}
  - name: ovn
    {{- if .test }}
    emptyDir: {}
    {{- else }}
    hostPath:
      path: {{ $root.Values.ovn.hostPath | default (ternary "/var/run/ovn-ic" "/run/openvswitch" (eq (include "kube-enricher.openshift" $root) "true")) }}
      type: Directory
    {{- end }}
  {{- end }}
  {{- with $root.Values.kafka }}
  {{- if and .enabled .tls.enabled .tls.caSecret }}
  - name: kafka-ca
    secret:
      secretName: {{ .tls.caSecret }}
  {{- end }}
  {{- if and .enabled .tls.enabled .tls.clientSecret }}
  - name: kafka-client
    secret:
      secretName: {{ .tls.clientSecret }}
  {{- end }}
  {{- end }}
  {{- range $secret := include "kube-enricher.outputSecrets" $root | fromYamlArray }}
  - name: {{ $secret.volume }}
    secret:
      secretName: {{ $secret.secret }}
  {{- end }}
  {{- with $root.Values.extraVolumes }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- end }}

{{/* Whether a right is given: as its value says, or if the cluster has the API. Called with value, api and root. */}}
{{- define "kube-enricher.given" -}}
{{- if kindIs "bool" .value }}
{{- if .value }}true{{ end }}
{{- else if .root.Capabilities.APIVersions.Has .api }}true{{ end }}
{{- end }}

{{/* Rules of the ClusterRole, or of a namespace's Role. Called with root, and cluster for the former. */}}
{{- define "kube-enricher.rules" -}}
{{- $rbac := .root.Values.rbac -}}
- apiGroups: [""]
  resources: [pods, services]
  verbs: [get, list, watch]
- apiGroups: [apps]
  resources: [replicasets]
  verbs: [get, list, watch]
{{- if and $rbac.nodes .cluster }}
- apiGroups: [""]
  resources: [nodes]
  verbs: [get, list, watch]
{{- end }}
{{- if $rbac.jobs }}
- apiGroups: [batch]
  resources: [jobs]
  verbs: [get, list, watch]
{{- end }}
{{- if $rbac.replicationControllers }}
- apiGroups: [""]
  resources: [replicationcontrollers]
  verbs: [get, list, watch]
{{- end }}
{{- if $rbac.endpointSlices }}
- apiGroups: [discovery.k8s.io]
  resources: [endpointslices]
  verbs: [get, list, watch]
{{- end }}
{{- if and .cluster (include "kube-enricher.given" (dict "root" .root "value" $rbac.egressIPs "api" "k8s.ovn.org/v1")) }}
- apiGroups: [k8s.ovn.org]
  resources: [egressips]
  verbs: [get, list, watch]
{{- end }}
{{- if include "kube-enricher.given" (dict "root" .root "value" $rbac.networks "api" "k8s.cni.cncf.io/v1") }}
- apiGroups: [k8s.cni.cncf.io]
  resources: [network-attachment-definitions]
  verbs: [get, list, watch]
{{- end }}
{{- if include "kube-enricher.given" (dict "root" .root "value" $rbac.networks "api" "k8s.ovn.org/v1") }}
- apiGroups: [k8s.ovn.org]
  resources: [userdefinednetworks{{ if .cluster }}, clusteruserdefinednetworks{{ end }}]
  verbs: [get, list, watch]
{{- end }}
{{- range $rbac.owners }}
{{- $parts := splitn "." 2 . }}
- apiGroups: [{{ $parts._1 | default "" | quote }}]
  resources: [{{ $parts._0 }}]
  verbs: [get, list, watch]
{{- end }}
{{- end }}

{{/* The port of a URL, or of host:port: url, and else, for one without. A path or a query may have a colon, and so has an IPv6 address. */}}
{{- define "kube-enricher.port" -}}
{{- $host := regexReplaceAll "[/?#].*$" (regexReplaceAll "^[a-z]+://" .url "") "" -}}
{{- regexFind ":[0-9]+$" (regexReplaceAll "^.*]" $host "]") | trimPrefix ":" | default .else -}}
{{- end -}}

{{/* The port that OTLP goes to, empty for none. gRPC has one of its own by default, HTTP that of its scheme. */}}
{{- define "kube-enricher.otlpPort" -}}
{{- with .Values.otlp -}}
{{- if .enabled -}}
{{- $else := "4317" -}}
{{- if eq .protocol "http" -}}{{- $else = ternary "443" "80" (hasPrefix "https:" .endpoint) -}}{{- end -}}
{{- include "kube-enricher.port" (dict "url" .endpoint "else" $else) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The port that the HTTP output goes to, empty for none. */}}
{{- define "kube-enricher.httpOutputPort" -}}
{{- with .Values.http -}}
{{- if .enabled -}}
{{- include "kube-enricher.port" (dict "url" .url "else" (ternary "443" "80" (hasPrefix "https:" .url))) -}}
{{- end -}}
{{- end -}}
{{- end -}}
