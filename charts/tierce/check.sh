#!/usr/bin/env bash
# Checks the chart without a cluster: it lints, renders as it should for several values, refuses wrong ones with a message
# that helps, and its README lists every value. `check.sh --write` brings the README's table up to date.
# Needs helm 4 (or HELM).
set -euo pipefail

chart=$(cd "$(dirname "$0")" && pwd)
helm=${HELM:-helm}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
failed=0

wrong() {
    failed=1
    printf 'WRONG: %s\n' "$*"
}

render() { # helm arguments
    "$helm" template tierce "$chart" --namespace tierce-system --kube-version 1.37.1 \
        --api-versions admissionregistration.k8s.io/v1/MutatingAdmissionPolicy --include-crds "$@"
}

# renders "what" "line that must be there|line…" helm arguments: lines are compared without their indentation.
renders() {
    local what=$1 line lines
    IFS='|' read -ra lines <<<"$2"
    shift 2
    if ! render "$@" >"$scratch/out" 2>"$scratch/err"; then
        wrong "$what: $(cat "$scratch/err")"
        return
    fi
    sed 's/^[ -]*//' "$scratch/out" >"$scratch/lines"
    for line in "${lines[@]}"; do
        if [[ $line == !* ]]; then
            ! grep -qxF -- "${line#!}" "$scratch/lines" || wrong "$what: the line '${line#!}' should not be there"
        else
            grep -qxF -- "$line" "$scratch/lines" || wrong "$what: no line '$line'"
        fi
    done
}

# refuses "what" "part of the message" helm arguments
refuses() {
    local what=$1 message=$2
    shift 2
    if render "$@" >/dev/null 2>"$scratch/err"; then
        wrong "$what: was accepted"
    elif ! grep -qF -- "$message" "$scratch/err"; then
        wrong "$what: no '$message' in: $(cat "$scratch/err")"
    fi
}

"$helm" lint "$chart" --strict --quiet >"$scratch/out" 2>&1 || wrong "lint: $(cat "$scratch/out")"

renders "defaults" "image: ghcr.io/tierce-storage/tierce-csi:0.1.0|replicas: 2|path: /var/lib/kubelet/pods|name: tierce-hdd-immediate|name: tierce-hdd-encrypted|name: tierce-hdd-encrypted-immediate|helm.sh/resource-policy: keep|kind: ValidatingAdmissionPolicy|kind: MutatingAdmissionPolicy|kind: CustomResourceDefinition|!path: /var/lib/tierce/pools|!namespace: default"
render >"$scratch/first"
render >"$scratch/second"
cmp -s "$scratch/first" "$scratch/second" || wrong "two renderings differ: Argo CD and Flux would never settle"
# Without a cluster and without a word about it, as in a pipeline: what every cluster takes, and nothing else.
"$helm" template tierce "$chart" --namespace tierce-system >"$scratch/plain" 2>&1 || wrong "plain: $(cat "$scratch/plain")"
grep -qx 'kind: ValidatingAdmissionPolicy' "$scratch/plain" || wrong "plain: no ValidatingAdmissionPolicy"
! grep -qx 'kind: MutatingAdmissionPolicy' "$scratch/plain" || wrong "plain: Kubernetes 1.33 would refuse a MutatingAdmissionPolicy"
classes=$(awk '/^kind: /{kind=$2} kind=="StorageClass"&&/^provisioner/{n++} END{print n}' "$scratch/first")
kept=$(awk '/^---/{kind=""} /^kind: /{kind=$2} kind=="StorageClass"&&/resource-policy: keep/{n++} END{print n}' "$scratch/first")
[[ $classes == 12 && $kept == "$classes" ]] || wrong "$kept of $classes StorageClasses are kept: volumes without their class don't grow"

cat >"$scratch/full.yaml" <<'END'
tiers:
  - name: nvme
    default: true
    filesystem: xfs
    reclaimPolicy: Retain
    pools:
      - name: nvme-a
        nodeSelector: {disks: nvme}
        directory: {path: /mnt/nvme0/tierce, provisioning: Thick}
        reservePercent: 2
      - name: nvme-lvm
        lvm: {volumeGroup: fast, thin: {pool: tierce, size: 800Gi}, devices: [/dev/disk/by-id/nvme-1]}
      - name: nvme-b
        directory: {path: /mnt/nvme1/tierce, createPath: true}
        overcommitPercent: 150
  - name: by-hand
    pools: []
kubeletDir: /var/lib/k0s/kubelet
image: {registry: mirror.example, repository: storage/tierce, tag: "0.1.0@sha256:0000000000000000000000000000000000000000000000000000000000000000", pullPolicy: Always}
imagePullSecrets: [{name: pull}]
log: {filter: "info,tierce_engine=debug", format: json}
controller: {replicas: 3, nodeSelector: {role: infra}, podAnnotations: {a: b}, podLabels: {c: d}}
node: {maxUnavailable: 3, hostPaths: [/srv/disks], nodeSelector: {storage: "yes"}}
crds: {upgrade: false}
END
renders "every value set" "tier: nvme|volumeGroup: fast|path: /mnt/nvme0|path: /mnt/nvme1|path: /srv/disks|!path: /mnt/nvme0/tierce/x|disks: nvme|provisioning: Thick|overcommitPercent: 150|csi.storage.k8s.io/fstype: xfs|reclaimPolicy: Retain|storageclass.kubernetes.io/is-default-class: \"true\"|name: tierce-by-hand|kubelet-dir=/var/lib/k0s/kubelet|image: mirror.example/storage/tierce/tierce-controller:0.1.0@sha256:0000000000000000000000000000000000000000000000000000000000000000|imagePullPolicy: Always|maxUnavailable: 3|role: infra|!kind: Job|!name: tierce-crds" \
    --values "$scratch/full.yaml"
[[ $(grep -c 'is-default-class' "$scratch/out") == 1 ]] || wrong "a default tier has one default StorageClass, not two"

renders "snapshots" "name: tierce-snapshotter|name: csi-snapshotter|image: registry.k8s.io/sig-storage/csi-snapshotter:v8.7.0|kind: VolumeSnapshotClass|!name: snapshot-controller|!name: volumesnapshots.snapshot.storage.k8s.io" \
    --set snapshots.enabled=true
renders "a snapshot controller of our own" "name: snapshot-controller|name: volumesnapshots.snapshot.storage.k8s.io" \
    --set snapshots.enabled=true --set snapshot-controller.enabled=true
renders "a closed cluster" "name: pull|disks: fast|value: infra|kubernetes.io/os: linux|path: /healthz/leader-election|imagePullPolicy: Always" \
    --set snapshots.enabled=true --set snapshot-controller.enabled=true --set 'snapshot-controller.imagePullSecrets[0].name=pull' \
    --set snapshot-controller.nodeSelector.disks=fast --set snapshot-controller.imagePullPolicy=Always \
    --set-json 'snapshot-controller.tolerations=[{"key":"role","value":"infra"}]'
every_pod=$(grep -c '^ *serviceAccountName:' "$scratch/out" || true) linux=$(grep -c 'kubernetes.io/os: linux' "$scratch/out" || true)
# The two pods of the test have no account.
[[ $((every_pod + 2)) == "$linux" ]] || wrong "of $((every_pod + 2)) pods $linux are for nodes with Linux"
rights() { # helm arguments: how many rules let those who edit a namespace write something
    render "$@" | grep -c 'verbs: \[create, update, patch, delete, deletecollection\]' || true
}
[[ $(rights) == 1 && $(rights --set snapshots.enabled=true) == 2 ]] || wrong "the right to snapshots does not follow snapshots.enabled"
[[ $(rights --set snapshots.enabled=true --set rbac.aggregateSnapshots=false) == 1 ]] || wrong "the right to snapshots can't be kept back"
renders "network policies" "kind: NetworkPolicy|name: snapshot-controller|port: provisioner|kubernetes.io/metadata.name: monitoring" \
    --set networkPolicy.enabled=true --set snapshot-controller.enabled=true \
    --set-json 'networkPolicy.metricsFrom=[{"namespaceSelector":{"matchLabels":{"kubernetes.io/metadata.name":"monitoring"}}}]'
renders "nobody reads the metrics" "kind: NetworkPolicy|ingress: []" --set networkPolicy.enabled=true
renders "a Prometheus operator" "kind: PodMonitor|port: snapshotter|interval: 15s|release: prometheus" \
    --set podMonitor.enabled=true --set podMonitor.interval=15s --set podMonitor.labels.release=prometheus --set snapshots.enabled=true
renders "neither unless asked for" "!kind: PodMonitor|!kind: NetworkPolicy|whenUnsatisfiable: ScheduleAnyway|values: [virtual-kubelet]"
renders "a large cluster" "kube-api-capacity-qps=100|kube-api-capacity-burst=200|capacity-threads=10|name: tierce-a-immediate|!name: tierce-a-encrypted" \
    --set sidecars.provisioner.capacity.qps=100 --set sidecars.provisioner.capacity.burst=200 --set sidecars.provisioner.capacity.threads=10 \
    --set-json 'tiers=[{"name":"a","encryptedClasses":false,"pools":[]}]'
# Sharing has to be asked for: without that a node has no open port, and nobody a right, that it had not before.
own='resources: [volumes, volumerestores]' all='resources: [volumes, sharedvolumes, volumerestores]'
renders "no sharing" "!hostNetwork: true|!path: /run/tierce|!fieldPath: status.hostIPs|!sharing-port=2049|metrics-addr=:8082|containerPort: 8082|path: /healthz|$own|!$all"
renders "sharing" "hostNetwork: true|dnsPolicy: ClusterFirstWithHostNet|sharing-port=2049|fieldPath: status.hostIPs|path: /run/tierce|podInfoOnMount: true|fsGroupPolicy: File|attachRequired: false|$all|!$own" \
    --set sharing.enabled=true
renders "sharing by other ports" "sharing-port=20490|metrics-addr=:9100|port: 9100" --set sharing.enabled=true --set sharing.port=20490 --set node.metricsPort=9100
# A port that the pod names is one of the node's, and the scheduler looks for a node where it is free; a probe that restarts may ask somebody else.
node_pod() { # part of a line: how often it is in the node plugin's DaemonSet with sharing on
    render --set sharing.enabled=true --show-only templates/node/daemonset.yaml | grep -c -- "$1" || true
}
for not in containerPort hostPort livenessProbe startupProbe 'port: metrics'; do
    [[ $(node_pod "$not") == 0 ]] || wrong "sharing: the node plugin's pod has a $not, so another's port can keep it from running"
done
[[ $(node_pod readinessProbe) == 1 ]] || wrong "sharing: nobody asks whether the node plugin is ready"
renders "a Prometheus operator and sharing" "regex: ([^:]+)|replacement: \$1:8082|replacement: '[\$1]:8082'|port: provisioner" --set podMonitor.enabled=true --set sharing.enabled=true
policies() { # helm arguments: for how many components there is a NetworkPolicy
    render --set networkPolicy.enabled=true "$@" | grep -c '^kind: NetworkPolicy' || true
}
[[ $(policies) == 2 && $(policies --set sharing.enabled=true) == 1 ]] || wrong "a NetworkPolicy does not hold in the network of a node"
refuses "a port that there is not" "/sharing/port" --set sharing.port=70000
renders "no snapshots" "!name: csi-snapshotter|!kind: VolumeSnapshotClass|!name: tierce-snapshotter"

tier() { # name, path, more fields of the pool
    printf '[{"name":"%s","pools":[{"name":"p","directory":{"path":"%s"%s}}]}]' "$1" "$2" "${3:-}"
}
refuses "a value that does not exist" "additional properties 'replicas' not allowed" --set replicas=2
refuses "no tier at all" "at '/tiers': minItems" --set-json 'tiers=[]'
refuses "a tier's name in capitals" "/tiers/0/name" --set-json "tiers=$(tier Fast /mnt/a/b)"
refuses "a pool that is nowhere" "'directory'" --set-json 'tiers=[{"name":"a","pools":[{"name":"p"}]}]'
refuses "a group both thin and thick" "/lvm" --set-json 'tiers=[{"name":"a","pools":[{"name":"p","lvm":{"volumeGroup":"v","thin":{"pool":"t"},"thick":{}}}]}]'
refuses "a pool that climbs" "/directory/path" --set-json "tiers=$(tier a /mnt/../etc/x)"
refuses "a pool right below the root" "/directory/path" --set-json "tiers=$(tier a /data)"
refuses "a pool field that does not exist" "'thin' not allowed" --set-json "tiers=$(tier a /mnt/a/b ',"thin":true')"
refuses "a pool that shadows the plugin's programs" "put the pool in a folder below /var/lib" --set-json "tiers=$(tier a /usr/local/pool)"
refuses "a host folder that shadows devices" "put the pool in a folder below /var/lib" --set-json 'node.hostPaths=["/dev/shm"]'
refuses "two tiers of one name" 'would share the StorageClass tierce-a' --set-json 'tiers=[{"name":"a","pools":[]},{"name":"a","pools":[]}]'
refuses "two tiers with one class" 'would share the StorageClass tierce-a-immediate' --set-json 'tiers=[{"name":"a","pools":[]},{"name":"a-immediate","pools":[]}]'
refuses "two pools of one name" 'pool names are unique' \
    --set-json 'tiers=[{"name":"a","pools":[{"name":"p","directory":{"path":"/mnt/a/b"}}]},{"name":"b","pools":[{"name":"p","directory":{"path":"/mnt/a/c"}}]}]'
refuses "encryption without its classes" 'encrypted volumes need those classes' \
    --set-json 'tiers=[{"name":"a","encryptedClasses":false,"pools":[{"name":"p","encryptByDefault":true,"directory":{"path":"/mnt/a/b"}}]}]'
refuses "two default tiers" 'only one tier can be the cluster' --set-json 'tiers=[{"name":"a","default":true,"pools":[]},{"name":"b","default":true,"pools":[]}]'
refuses "a relative kubelet folder" "/kubeletDir" --set kubeletDir=var/lib/kubelet
refuses "a grace without a unit" "/controller/nodeLostGrace" --set-string controller.nodeLostGrace=300
refuses "an unknown tier to test" 'test.tier: no tier "x"' --set test.tier=x
refuses "Kubernetes 1.32" "incompatible with Kubernetes v1.32.9" --kube-version 1.32.9

# The tiers that the examples name are those that a fresh install has, or their own.
for tier in $(sed -n 's/^ *tier: *//p; s/^ *storageClassName: *tierce-//p' "$chart"/../../examples/*.yaml | sort -u); do
    grep -qE "^ *- name: $tier\$" "$chart/values.yaml" || grep -rqE "^  name: tierce-$tier\$" "$chart/../../examples" ||
        wrong "examples: no tier $tier"
done

# README: the table between the two marks is rendered from the schema and the values by the small chart in reference/.
cp -r "$chart/reference" "$scratch/reference"
mkdir "$scratch/reference/chart"
cp -r "$chart/values.yaml" "$chart/values.schema.json" "$chart/crds" "$scratch/reference/chart"
if "$helm" template table "$scratch/reference" >"$scratch/rendered" 2>"$scratch/err"; then
    {
        sed '/<!-- values -->/q' "$chart/README.md"
        sed -n 's/^  |/|/p' "$scratch/rendered"
        sed -n '/<!-- end of values -->/,$p' "$chart/README.md"
    } >"$scratch/README.md"
    if [[ ${1:-} == --write ]]; then
        cp "$scratch/README.md" "$chart/README.md"
    elif ! diff -u "$chart/README.md" "$scratch/README.md"; then
        wrong "README.md is not up to date: run check.sh --write"
    fi
else
    wrong "reference: $(cat "$scratch/err")"
fi

[[ $failed == 0 ]] && echo "the chart is as it should be"
exit "$failed"
