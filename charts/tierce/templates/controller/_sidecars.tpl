{{/* Flags by which the replicas of a sidecar agree on one that works. */}}
{{- define "tierce.leaderElection" -}}
- --leader-election
- --leader-election-namespace={{ .Release.Namespace }}
- --leader-election-lease-duration={{ .Values.sidecars.leaderElection.leaseDuration }}
- --leader-election-renew-deadline={{ .Values.sidecars.leaderElection.renewDeadline }}
- --leader-election-retry-period={{ .Values.sidecars.leaderElection.retryPeriod }}
# A replica that ends in order hands over at once instead of letting its lease run out.
- --feature-gates=ReleaseLeaderElectionOnExit=true
{{- end }}

{{/* Ends a sidecar that lost its lease and did not notice. Takes the name of the port. */}}
{{- define "tierce.leaderElectionProbe" -}}
httpGet:
  path: /healthz/leader-election
  port: {{ . }}
initialDelaySeconds: 10
periodSeconds: 20
timeoutSeconds: 10
{{- end }}
