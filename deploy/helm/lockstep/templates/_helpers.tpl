{{/* The name of everything: NAME-SITE, so that a node's name is unique over all sites. */}}
{{- define "lockstep.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" (default "gerrit" .Values.nameOverride) .Values.site | trunc 40 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "lockstep.selector" -}}
app.kubernetes.io/name: lockstep
app.kubernetes.io/instance: {{ include "lockstep.fullname" . }}
{{- end -}}

{{- define "lockstep.labels" -}}
{{ include "lockstep.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
lockstep/site: {{ .Values.site }}
{{- end -}}

{{- define "lockstep.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "lockstep.fullname" .) -}}
{{- end -}}

{{/* An image: call with (list image chart). A digest wins over a tag. */}}
{{- define "lockstep.image" -}}
{{- $image := index . 0 -}}
{{- $chart := index . 1 -}}
{{- if $image.digest -}}
{{- printf "%s@%s" $image.repository $image.digest -}}
{{- else -}}
{{- printf "%s:%s" $image.repository (default $chart.AppVersion $image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "lockstep.tlsSecret" -}}
{{- if .Values.tls.certManager.enabled -}}
{{- printf "%s-tls" (include "lockstep.fullname" .) -}}
{{- else -}}
{{- .Values.tls.secretName -}}
{{- end -}}
{{- end -}}

{{- define "lockstep.secrets" -}}
{{- .Values.secrets.secretName | default (printf "%s-secrets" (include "lockstep.fullname" .)) -}}
{{- end -}}

{{/* Checks that no schema can express. */}}
{{- define "lockstep.check" -}}
{{- $v := .Values -}}
{{- if not (has $v.site $v.sites) -}}
{{- fail (printf "sites: %s is missing; list the names of all sites, this one included" $v.site) -}}
{{- end -}}
{{- if gt (int $v.replicas) (int $v.mostReplicas) -}}
{{- fail (printf "replicas: %d is more than mostReplicas, %d; raise mostReplicas first" (int $v.replicas) (int $v.mostReplicas)) -}}
{{- end -}}
{{- if and $v.tls.certManager.enabled $v.tls.secretName -}}
{{- fail "tls.secretName: tls.certManager.enabled makes a Secret of its own; set one of the two" -}}
{{- end -}}
{{- if and $v.tls.certManager.enabled (not $v.tls.certManager.issuer.name) -}}
{{- fail "tls.certManager.issuer.name: name the issuer of the certificate" -}}
{{- end -}}
{{- if and $v.secrets.externalSecrets.enabled (not $v.secrets.externalSecrets.store.name) -}}
{{- fail "secrets.externalSecrets.store.name: name the store of the secrets" -}}
{{- end -}}
{{- if and $v.gerrit.shared.files (not $v.gerrit.shared.secretName) -}}
{{- fail "gerrit.shared.secretName: name the Secret that has gerrit.shared.files" -}}
{{- end -}}
{{- if and (ne $v.mode "off") (not (dig "blobs" "url" "" $v.config)) (not (dig "embedded" "dir" "" $v.config)) -}}
{{- fail "config.blobs.url: name the blob store, s3://bucket/prefix" -}}
{{- end -}}
{{- range $section, $port := dict "tls" "7422" "operators" "7423" -}}
{{- $listen := dig $section "listen" "" $v.config -}}
{{- if and $listen (not (hasSuffix (print ":" $port) $listen)) -}}
{{- fail (printf "config.%s.listen: %s; write 0.0.0.0:%s, the port of the pod" $section $listen $port) -}}
{{- end -}}
{{- end -}}
{{- range $label, $value := (include "lockstep.spec" . | fromYaml).nodes -}}
{{- if and (ne $v.mode "off") (ne (toString (get $v.nodeSelector $label)) $value) -}}
{{- fail (printf "nodeSelector: %s is %q; write %s, for which there is an image" $label (toString (get $v.nodeSelector $label)) $value) -}}
{{- end -}}
{{- end -}}
{{- include "lockstep.checkPublicImage" . -}}
{{- if and $v.monitoring.podMonitor.enabled $v.monitoring.serviceMonitor.enabled -}}
{{- fail "monitoring.serviceMonitor.enabled: podMonitor reads the same metrics; enable one of the two" -}}
{{- end -}}
{{- if dig "health" "listen" "" $v.config -}}
{{- fail "config.health.listen: the pod sets it for the kubelet's probes; remove it" -}}
{{- end -}}
{{- range $name, $peer := (dig "peers" dict $v.config) -}}
{{- if and (hasPrefix "https://" (dig "url" "" $peer)) (not (include "lockstep.tlsSecret" $)) -}}
{{- fail (printf "config.peers.%s.url: https needs a certificate of this site; set tls.secretName or tls.certManager" $name) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* The sidecar's configuration in TOML. Values of the user win over those of the chart. It does not depend on the
number of replicas: the nodes of the site find each other by their names, so a site grows without a restart. */}}
{{- define "lockstep.config" -}}
{{- $v := .Values -}}
{{- $own := dict "site" $v.site "sites" $v.sites "root" "/var/gerrit/git" "state" "/var/gerrit/git/.lockstep" -}}
{{- $_ := set $own "git" (dict "install_hooks" (not $v.bridge.enabled)) -}}
{{- $_ := set $own "gerrit" (dict "refresh" (ternary "bridge" "none" $v.bridge.enabled)) -}}
{{- if $v.rbac.create -}}
{{- $_ := set $own "handover" (dict "pod_label" "lockstep/role") -}}
{{- end -}}
{{- if include "lockstep.tlsSecret" . -}}
{{- $folder := "/etc/lockstep-tls/" -}}
{{- $tls := dict "certificate_file" (print $folder "tls.crt") "key_file" (print $folder "tls.key") "trust_file" (print $folder "ca.crt") -}}
{{- $allow := list -}}
{{- range $v.sites -}}
{{- $allow = append $allow (printf "spiffe://%s/%s/*" $v.tls.trustDomain .) -}}
{{- end -}}
{{- $_ := set $tls "listen" "0.0.0.0:7422" -}}
{{- $_ := set $tls "allow" $allow -}}
{{- $_ := set $own "tls" $tls -}}
{{- if not (dig "embedded" "dir" "" $v.config) -}}
{{- $name := include "lockstep.fullname" . -}}
{{- $url := printf "https://{node}.%s.%s.svc:7422" $name .Release.Namespace -}}
{{- $identity := printf "spiffe://%s/%s/%s" $v.tls.trustDomain $v.site $name -}}
{{- $_ := set $own "siblings" (dict "url" $url "identity" $identity) -}}
{{- end -}}
{{- end -}}
{{- mergeOverwrite $own (deepCopy $v.config) | toToml -}}
{{- end -}}

{{/* gerrit.config: the user's text, and the part that docs/gerrit.md asks for. */}}
{{- define "lockstep.gerritConfig" -}}
{{- with .Values.gerrit.config }}
{{- . | trim }}
{{ end -}}
[gerrit]
	basePath = git
{{- with .Values.gerrit.publicImage.serverId }}
	serverId = {{ . }}
{{- end }}
{{- if and (eq .Values.mode "active") .Values.bridge.enabled }}
	installDbModule = io.lockstep.bridge.BridgeDbModule
	installModule = io.lockstep.bridge.BridgeModule
[core]
	usePerRequestRefCache = false
[lockstep]
	socket = /run/lockstep/api.sock
{{- end }}
{{- if .Values.gerrit.publicImage.enabled }}
[cache]
	directory = cache
[container]
	javaOptions = -Duser.home=/tmp
	javaOptions = -Djava.security.egd=file:/dev/./urandom
	javaOptions = --add-opens java.base/java.net=ALL-UNNAMED
	javaOptions = --add-opens java.base/java.lang.invoke=ALL-UNNAMED
{{- end }}
{{- end -}}

{{/* The spec that all deployments share. */}}
{{- define "lockstep.spec" -}}
{{- .Files.Get "files/spec.yaml" -}}
{{- end -}}

{{- define "lockstep.sidecar" -}}
{{- $sidecar := deepCopy (include "lockstep.spec" . | fromYaml).sidecar -}}
{{- $_ := set $sidecar "image" (include "lockstep.image" (list .Values.image .Chart)) -}}
{{- $_ := set $sidecar "imagePullPolicy" .Values.image.pullPolicy -}}
{{- with .Values.sidecar.resources -}}
{{- $_ := set $sidecar "resources" . -}}
{{- end -}}
{{- with .Values.aws.region -}}
{{- $_ := set $sidecar "env" (append $sidecar.env (dict "name" "AWS_REGION" "value" .)) -}}
{{- end -}}
{{- with .Values.aws.roleArn -}}
{{- $token := dict "name" "AWS_WEB_IDENTITY_TOKEN_FILE" "value" "/var/run/secrets/aws/token" -}}
{{- $_ := set $sidecar "env" (concat $sidecar.env (list (dict "name" "AWS_ROLE_ARN" "value" .) $token)) -}}
{{- $mount := dict "name" "aws-token" "mountPath" "/var/run/secrets/aws" "readOnly" true -}}
{{- $_ := set $sidecar "volumeMounts" (append $sidecar.volumeMounts $mount) -}}
{{- end -}}
{{- with .Values.sidecar.env -}}
{{- $_ := set $sidecar "env" (concat $sidecar.env .) -}}
{{- end -}}
{{- if include "lockstep.isNative" . -}}
{{- $_ := set $sidecar "restartPolicy" "Always" -}}
{{- end -}}
{{- if eq .Values.mode "shadow" -}}
{{- $journal := "/var/lib/lockstep-shadow" -}}
{{- $_ := set $sidecar "args" (list "shadow" "watch" "--config" "/etc/lockstep/lockstep.toml" "--journal" $journal) -}}
{{- $mounts := list (dict "name" "gerrit-site" "mountPath" $journal "subPath" "lockstep-shadow") -}}
{{- range $sidecar.volumeMounts -}}
{{- $mounts = append $mounts (ternary (merge (dict "readOnly" true) .) . (eq .name "gerrit-site")) -}}
{{- end -}}
{{- $_ := set $sidecar "volumeMounts" $mounts -}}
{{- end -}}
{{- toYaml $sidecar -}}
{{- end -}}

{{/* Kubernetes has native sidecars from 1.29. Before, the sidecar is a container like Gerrit. */}}
{{- define "lockstep.isNative" -}}
{{- if semverCompare ">=1.29.0-0" .Capabilities.KubeVersion.Version -}}true{{- end -}}
{{- end -}}
