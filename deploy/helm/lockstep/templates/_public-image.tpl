{{/* Gerrit's public image, docker.io/gerritcodereview/gerrit: its programs are in /var/gerrit, which the volume hides. */}}

{{/* The mounts of the volume. The image declares folders of /var/gerrit as volumes, and containerd would mount an empty
one over each that the pod does not mount by itself. */}}
{{- define "lockstep.siteMounts" -}}
- {name: gerrit-site, mountPath: /var/gerrit}
{{- if .Values.gerrit.publicImage.enabled }}
{{- range list "cache" "db" "etc" "git" "index" }}
- {name: gerrit-site, mountPath: /var/gerrit/{{ . }}, subPath: {{ . }}}
{{- end }}
{{- end }}
{{- end -}}

{{/* An init container of the public image: call with (list context script mounts). */}}
{{- define "lockstep.publicInit" -}}
{{- $ := index . 0 -}}
{{- $script := index . 1 -}}
{{- $spec := include "lockstep.spec" $ | fromYaml -}}
image: {{ $.Values.gerrit.image }}
imagePullPolicy: {{ $.Values.image.pullPolicy }}
command:
  - bash
  - -ec
  - |
    {{- $.Files.Get (printf "files/public-image/%s.sh" $script) | trim | nindent 4 }}
env:
  - name: POD_NAME
    valueFrom: {fieldRef: {fieldPath: metadata.name}}
  - {name: HOME, value: /tmp}
  - {name: XDG_CONFIG_HOME, value: /tmp}
  - {name: SIDECAR, value: {{ eq $.Values.mode "active" | quote }}}
resources:
  {{- toYaml (ternary $spec.bridge.resources $.Values.gerrit.resources (eq $script "programs")) | nindent 2 }}
securityContext:
  {{- toYaml $spec.sidecar.securityContext | nindent 2 }}
volumeMounts:
  {{- toYaml (index . 2) | nindent 2 }}
  - {name: gerrit-config, mountPath: /etc/gerrit-config, readOnly: true}
  - {name: gerrit-tmp, mountPath: /tmp}
{{- end -}}

{{/* Values that do not fit together. */}}
{{- define "lockstep.checkPublicImage" -}}
{{- $v := .Values -}}
{{- $public := $v.gerrit.publicImage -}}
{{- if and (regexMatch "(^|/)gerritcodereview/gerrit([:@]|$)" $v.gerrit.image) (not $public.enabled) -}}
{{- fail (printf "gerrit.image: %s has its programs in /var/gerrit, which the volume hides; set gerrit.publicImage.enabled" $v.gerrit.image) -}}
{{- end -}}
{{- if and $public.initialise (not $public.enabled) -}}
{{- fail "gerrit.publicImage.initialise: nothing of gerrit.publicImage is done; set gerrit.publicImage.enabled, too" -}}
{{- end -}}
{{- if $public.enabled -}}
{{- if not $v.bridge.enabled -}}
{{- fail "gerrit.publicImage.enabled: a plain git server has no Gerrit; set bridge.enabled" -}}
{{- end -}}
{{- if not $public.serverId -}}
{{- fail "gerrit.publicImage.serverId: give all sites the same UUID, such as the output of uuidgen" -}}
{{- end -}}
{{- if regexMatch "(?i)(^|\\n)\\s*serverId\\s*=" $v.gerrit.config -}}
{{- fail "gerrit.config: it has a serverId; write it into gerrit.publicImage.serverId alone" -}}
{{- end -}}
{{- if not (or $v.gerrit.shared.secretName (regexMatch "(?i)(^|\\n)\\s*listenAddress\\s*=\\s*off" $v.gerrit.config)) -}}
{{- fail "gerrit.shared.secretName: all sites need the same SSH host keys; name their Secret, or set sshd.listenAddress = off in gerrit.config" -}}
{{- end -}}
{{- if and (eq $v.mode "active") (not (include "lockstep.isNative" .)) -}}
{{- fail "gerrit.publicImage.enabled: Gerrit's index is made behind a native sidecar, which needs Kubernetes 1.29" -}}
{{- end -}}
{{- end -}}
{{- end -}}
