{{/*
Refuses tiers that the schema can't judge: names given twice, and names that would give two tiers the same StorageClass.
*/}}
{{- define "tierce.checkTiers" -}}
{{- $classes := dict -}}
{{- $pools := dict -}}
{{- $defaults := list -}}
{{- range .Values.tiers -}}
  {{- $tier := .name -}}
  {{- range list (printf "tierce-%s" $tier) (printf "tierce-%s-immediate" $tier) (printf "tierce-%s-encrypted" $tier) (printf "tierce-%s-encrypted-immediate" $tier) -}}
    {{- if hasKey $classes . -}}
      {{- fail (printf "tiers: %q and %q would share the StorageClass %s: give one of them another name" (get $classes .) $tier .) -}}
    {{- end -}}
    {{- $_ := set $classes . $tier -}}
  {{- end -}}
  {{- $noKeys := eq (toString .encryptedClasses) "false" -}}
  {{- range .pools -}}
    {{- if and $noKeys .encryptByDefault -}}
      {{- fail (printf "tiers: pool %q has encryptByDefault, and its tier %q has encryptedClasses: false: encrypted volumes need those classes" .name $tier) -}}
    {{- end -}}
    {{- if hasKey $pools .name -}}
      {{- fail (printf "tiers: the pool name %q is used by tier %q and tier %q: pool names are unique in the cluster" .name (get $pools .name) $tier) -}}
    {{- end -}}
    {{- $_ := set $pools .name $tier -}}
  {{- end -}}
  {{- if .default -}}
    {{- $defaults = append $defaults $tier -}}
  {{- end -}}
{{- end -}}
{{- if and .Values.test.tier (not (hasKey $classes (printf "tierce-%s" .Values.test.tier))) -}}
  {{- fail (printf "test.tier: no tier %q in tiers" .Values.test.tier) -}}
{{- end -}}
{{- if gt (len $defaults) 1 -}}
  {{- fail (printf "tiers: only one tier can be the cluster's default, not %s" (join " and " $defaults)) -}}
{{- end -}}
{{- end }}

{{/*
Folders of the host that the node plugin must see besides its own, one per line, sorted.
A pool's *parent* is mounted, not the pool: the container runtime makes a missing folder that it is told to mount, and a
pool whose disk is not mounted must stay missing (StoragePool.spec.directory.createPath).
*/}}
{{- define "tierce.hostPaths" -}}
{{- $system := list "/bin" "/boot" "/dev" "/etc" "/lib" "/lib32" "/lib64" "/proc" "/run" "/sbin" "/sys" "/usr" -}}
{{- $paths := .Values.node.hostPaths -}}
{{- range .Values.tiers -}}
  {{- range .pools -}}
    {{- if and .directory (not (hasPrefix "/var/lib/tierce/" .directory.path)) -}}
      {{- $paths = append $paths (dir .directory.path) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- range $path := $paths -}}
  {{- range $system -}}
    {{- if or (eq $path .) (hasPrefix (printf "%s/" .) $path) -}}
      {{- fail (printf "%s can't be shared with the node plugin, whose own programs and devices lie in %s: put the pool in a folder below /var/lib, /mnt, /srv or the like" $path .) -}}
    {{- end -}}
  {{- end -}}
{{- end -}}
{{- $paths | uniq | sortAlpha | join "\n" -}}
{{- end }}
