#!/usr/bin/env bash
# Proves on a cluster where the chart is installed that a node plugin's token writes the objects of its own node alone, and
# that the controller's token writes no Secrets but keys, and no PersistentVolumes and snapshots of other drivers.
# The tokens are real ones, bound by the API server to pods of two nodes that exist for this check only.
# Needs: KUBECONFIG of a cluster administrator, kubectl (or KUBECTL). Usage: check-policy.sh [namespace of the release]
set -euo pipefail

namespace=${1:-tierce-system}
kubectl=${KUBECTL:-kubectl}
scratch=$(mktemp -d)
own=tierce-check-own other=tierce-check-other
failed=0

cleanup() {
    local name kind
    for name in "$own" "$other"; do
        for kind in nodevolume nodesnapshot; do
            "$kubectl" delete "$kind" "$name" --wait=false || true
            "$kubectl" patch "$kind" "$name" --type=merge -p '{"metadata":{"finalizers":null}}' || true
        done
        "$kubectl" delete nodestorage "$name" || true
        "$kubectl" delete pod "$name" --namespace "$namespace" --force || true
        "$kubectl" delete node "$name" || true
    done
    "$kubectl" delete secret tierce-key-check tierce-key-check-token tierce-check --namespace "$namespace" || true
    "$kubectl" delete clusterrole,clusterrolebinding tierce-check || true
    for name in tierce-check tierce-check-foreign; do
        for kind in persistentvolume volumesnapshotcontent; do
            "$kubectl" delete "$kind" "$name" --wait=false || true
            "$kubectl" patch "$kind" "$name" --type=merge -p '{"metadata":{"finalizers":null}}' || true
        done
    done
    rm -rf "$scratch"
} >/dev/null 2>&1
trap cleanup EXIT

node_volume() { # name
    cat <<END
apiVersion: storage.tierce.dev/v1alpha1
kind: NodeVolume
metadata: {name: $1, finalizers: [storage.tierce.dev/on-node], labels: {a: b}}
spec: {nodeName: $1, pool: hdd, sizeBytes: 1048576, volumeMode: Block}
END
}

node_snapshot() { # name
    cat <<END
apiVersion: storage.tierce.dev/v1alpha1
kind: NodeSnapshot
metadata: {name: $1, finalizers: [storage.tierce.dev/on-node], labels: {a: b}}
spec: {nodeName: $1, pool: hdd, source: tierce-check-source}
END
}

node_storage() { # name
    cat <<END
apiVersion: storage.tierce.dev/v1alpha1
kind: NodeStorage
metadata: {name: $1}
spec: {nodeName: $1}
END
}

for node in "$own" "$other"; do
    "$kubectl" create -f - >/dev/null <<END
apiVersion: v1
kind: Node
metadata: {name: $node}
END
    "$kubectl" create -f - >/dev/null <<END
apiVersion: v1
kind: Pod
metadata: {name: $node, namespace: $namespace}
spec:
  nodeName: $node
  serviceAccountName: tierce-node
  tolerations: [{operator: Exists}]
  containers: [{name: none, image: none.invalid/none}]
END
    node_volume "$node" | "$kubectl" create -f - >/dev/null
    node_snapshot "$node" | "$kubectl" create -f - >/dev/null
done
node_storage "$other" | "$kubectl" create -f - >/dev/null
# kubectl reads an object before it patches it; the plugin does not, and may not.
resources=storagepools.storage.tierce.dev
for resource in nodevolumes nodesnapshots nodestorages; do
    resources+=,$resource.storage.tierce.dev,$resource.storage.tierce.dev/status
done
"$kubectl" create clusterrole tierce-check --verb=get --resource="$resources" >/dev/null
"$kubectl" create clusterrolebinding tierce-check --clusterrole=tierce-check \
    --serviceaccount="$namespace:tierce-node" >/dev/null

"$kubectl" config view --raw --minify --flatten >"$scratch/kubeconfig"
cluster=$("$kubectl" --kubeconfig "$scratch/kubeconfig" config view -o jsonpath='{.clusters[0].name}')
"$kubectl" --kubeconfig "$scratch/kubeconfig" config unset users >/dev/null
bound=$("$kubectl" create token tierce-node --namespace "$namespace" --bound-object-kind=Pod --bound-object-name="$own")
unbound=$("$kubectl" create token tierce-node --namespace "$namespace")
controller=$("$kubectl" create token tierce-controller --namespace "$namespace")
for user in bound unbound controller; do
    "$kubectl" --kubeconfig "$scratch/kubeconfig" config set-credentials "$user" --token="${!user}" >/dev/null
    "$kubectl" --kubeconfig "$scratch/kubeconfig" config set-context "$user" --cluster="$cluster" --user="$user" >/dev/null
done
as() { # bound|unbound|controller, kubectl arguments
    local context=$1
    shift
    "$kubectl" --kubeconfig "$scratch/kubeconfig" --context "$context" "$@"
}

# expect ok|"part of the refusal" "what is tried" command…
expect() {
    local want=$1 what=$2 output status=0
    shift 2
    output=$("$@" 2>&1) || status=$?
    if [[ $want == ok && $status == 0 ]] || [[ $want != ok && $status != 0 && $output == *"$want"* ]]; then
        printf 'as it should be: %s: %s\n' "$what" "${want/#ok/allowed}"
    else
        failed=1
        printf 'WRONG: %s: wanted %s, got (exit %s) %s\n' "$what" "$want" "$status" "$output"
    fi
}
status='{"status":{"usedBytes":1}}'
label='{"metadata":{"labels":{"a":"c"}}}'
annotation='{"metadata":{"annotations":{"storage.tierce.dev/only-if-unused":"true"}}}'
finalizers='{"metadata":{"finalizers":null}}'
finalizer() { # add|replace, path below /metadata, value
    printf '[{"op":"%s","path":"/metadata/%s","value":%s}]' "$1" "$2" "$3"
}

# The policy takes a moment to come into force after an install.
for _ in $(seq 50); do
    as bound patch nodevolume "$other" --subresource=status --type=merge -p "$status" --dry-run=server >/dev/null 2>&1 || break
    sleep 0.2
done

expect "may change only the status" "size of its own NodeVolume" \
    as bound patch nodevolume "$own" --type=merge -p '{"spec":{"sizeBytes":2097152}}'
expect "may change only the status" "who asked for its own NodeVolume" as bound patch nodevolume "$own" --type=merge \
    -p '{"spec":{"volumeRef":{"kind":"Volume","namespace":"tierce-check","name":"data","uid":"tierce-check"}}}'
expect "a NodeSnapshot can't be changed" "source of its own NodeSnapshot" \
    as bound patch nodesnapshot "$own" --type=merge -p '{"spec":{"source":"tierce-check-other"}}'

orders() { # kind, how its refusal to move begins
    local kind=$1 immutable=$2
    expect ok "status of its own $kind" as bound patch "$kind" "$own" --subresource=status --type=merge -p "$status"
    expect "may not write ${kind}s $other of $other" "status of another node's $kind" \
        as bound patch "$kind" "$other" --subresource=status --type=merge -p "$status"
    expect "$immutable" "its own $kind moved to another node" \
        as bound patch "$kind" "$own" --type=merge -p "{\"spec\":{\"nodeName\":\"$other\"}}"
    expect "$immutable" "another node's $kind taken over" \
        as bound patch "$kind" "$other" --type=merge -p "{\"spec\":{\"nodeName\":\"$own\"}}"
    expect "may change only the status" "label of its own $kind" as bound patch "$kind" "$own" --type=merge -p "$label"
    expect "may change only the status" "annotation of its own $kind" \
        as bound patch "$kind" "$own" --type=merge -p "$annotation"
    expect "may change only the status" "finalizer of its own $kind that nobody deleted" \
        as bound patch "$kind" "$own" --type=merge -p "$finalizers"
    expect "may not write ${kind}s $other" "finalizer of another node's $kind" \
        as bound patch "$kind" "$other" --type=merge -p "$finalizers"
    expect "may change only the status" "another's finalizer put on its own $kind" \
        as bound patch "$kind" "$own" --type=json -p "$(finalizer add finalizers/- '"x.example/y"')"
    "$kubectl" patch "$kind" "$own" --type=json -p "$(finalizer replace finalizers '["x.example/y"]')" >/dev/null
    expect ok "its finalizer put on its own $kind that has none" \
        as bound patch "$kind" "$own" --type=json -p "$(finalizer add finalizers/- '"storage.tierce.dev/on-node"')"
    expect "cannot delete" "deleting its own $kind" as bound delete "$kind" "$own" --wait=false
    "$kubectl" delete "$kind" "$own" "$other" --wait=false >/dev/null
    expect "may not write ${kind}s $other" "finalizer of another node's $kind that is being deleted" \
        as bound patch "$kind" "$other" --type=merge -p "$finalizers"
    expect "may change only the status" "another's finalizer of its own $kind that is being deleted" \
        as bound patch "$kind" "$own" --type=merge -p "$finalizers"
    expect ok "its finalizer of its own $kind that is being deleted" \
        as bound patch "$kind" "$own" --type=json -p "$(finalizer replace finalizers '["x.example/y"]')"
}
expect "cannot create" "making a NodeVolume" as bound create -f <(node_volume tierce-check-own)
expect "cannot create" "making a NodeSnapshot" as bound create -f <(node_snapshot tierce-check-own)
orders nodevolume "nodeName is immutable"
orders nodesnapshot "a NodeSnapshot can't be changed"

expect ok "its own NodeStorage made" as bound apply --server-side -f <(node_storage "$own")
expect ok "status of its own NodeStorage" \
    as bound patch nodestorage "$own" --subresource=status --type=merge -p '{"status":{"unclaimed":["x"]}}'
expect "may not write nodestorages $other of $other" "status of another node's NodeStorage" \
    as bound patch nodestorage "$other" --subresource=status --type=merge -p '{"status":{"unclaimed":["x"]}}'
expect "may not write nodestorages tierce-check-third" "a NodeStorage of a third node made" \
    as bound create -f <(node_storage tierce-check-third)

expect "names no node" "a token that is bound to no pod: status" \
    as unbound patch nodevolume "$other" --subresource=status --type=merge -p "$status"
expect "names no node" "a token that is bound to no pod: NodeStorage" as unbound create -f <(node_storage tierce-check-third)

expect "cannot list" "reading Secrets" as bound get secrets --all-namespaces
expect "cannot list" "reading Secrets of its namespace" as bound get secrets --namespace "$namespace"
expect "cannot get" "reading a key" as bound get secret tierce-key-check --namespace "$namespace"
# One that is there: kubectl reads before it writes.
pool=$("$kubectl" get storagepools -o jsonpath='{.items[0].metadata.name}')
expect "cannot patch" "writing StoragePools" as bound patch storagepool "$pool" --type=merge -p "$label"
expect "cannot list" "reading PersistentVolumeClaims" as bound get persistentvolumeclaims --all-namespaces

secret() { # verb, name, further arguments
    as controller "$1" secret "${@:2}" --namespace "$namespace"
}
"$kubectl" create secret generic tierce-check --namespace "$namespace" --from-literal=a=b >/dev/null
only_keys="the controller writes Secrets named tierce-key-… only, not tierce-check"
change='{"stringData":{"key":"x"}}'
expect ok "the controller makes a key" secret create generic tierce-key-check --from-literal=key=x
expect ok "the controller changes a key" secret patch tierce-key-check --type=merge -p "$change"
expect ok "the controller deletes a key" secret delete tierce-key-check
expect "$only_keys-2" "the controller makes another Secret" secret create generic tierce-check-2 --from-literal=key=x
expect "$only_keys" "the controller changes another Secret" secret patch tierce-check --type=merge -p "$change"
expect "$only_keys" "the controller deletes another Secret" secret delete tierce-check
expect "the controller writes Secrets of type Opaque only, not kubernetes.io/service-account-token" \
    "the controller makes itself a token of another account" as controller create --namespace "$namespace" -f - <<END
apiVersion: v1
kind: Secret
metadata: {name: tierce-key-check-token, annotations: {kubernetes.io/service-account.name: default}}
type: kubernetes.io/service-account-token
END
expect "cannot create" "the controller makes a key in another namespace" \
    as controller create secret generic tierce-key-check --from-literal=key=x --namespace default
expect "cannot list" "the controller lists Secrets of another namespace" as controller get secrets --namespace default

persistent_volume() { # name, source
    cat <<END
apiVersion: v1
kind: PersistentVolume
metadata: {name: $1}
spec: {capacity: {storage: 1Mi}, accessModes: [ReadWriteOnce], persistentVolumeReclaimPolicy: Retain, $2}
END
}
csi() { # driver, Secret, for what
    echo "csi: {driver: $1, volumeHandle: tierce-check, ${3:-nodeStageSecretRef}: {namespace: $namespace, name: $2}}"
}
only_ours="the controller writes PersistentVolumes of csi.tierce.dev only"
only_own_keys="the controller writes PersistentVolumes with keys of its own only"
persistent_volume tierce-check-foreign "$(csi other.example.org tierce-key-check)" | "$kubectl" create -f - >/dev/null
expect ok "the controller makes a PersistentVolume" \
    as controller create -f <(persistent_volume tierce-check "$(csi csi.tierce.dev tierce-key-check)")
expect ok "the controller changes a PersistentVolume" \
    as controller patch persistentvolume tierce-check --type=merge -p "$label"
expect "$only_own_keys" "the controller adds a Secret to a PersistentVolume" as controller patch persistentvolume tierce-check \
    --type=merge -p '{"spec":{"csi":{"controllerExpandSecretRef":{"namespace":"kube-system","name":"x"}}}}'
expect ok "the controller deletes a PersistentVolume" as controller delete persistentvolume tierce-check --wait=false
expect "$only_ours" "the controller makes a PersistentVolume of a node's path" \
    as controller create -f <(persistent_volume tierce-check-2 "hostPath: {path: /}")
expect "$only_ours" "the controller makes a PersistentVolume of another driver" \
    as controller create -f <(persistent_volume tierce-check-2 "$(csi other.example.org tierce-key-check)")
expect "$only_own_keys" "the controller makes a PersistentVolume with another Secret" \
    as controller create -f <(persistent_volume tierce-check-2 "$(csi csi.tierce.dev tierce-check)")
for reference in nodePublishSecretRef nodeExpandSecretRef controllerPublishSecretRef controllerExpandSecretRef; do
    expect "$only_own_keys" "the controller makes a PersistentVolume with a $reference" as controller create \
        -f <(persistent_volume tierce-check-2 "$(csi csi.tierce.dev tierce-key-check "$reference")")
done
expect "$only_ours" "the controller changes a PersistentVolume of another driver" \
    as controller patch persistentvolume tierce-check-foreign --type=merge -p "$label"
expect "$only_ours" "the controller deletes a PersistentVolume of another driver" \
    as controller delete persistentvolume tierce-check-foreign --wait=false

snapshot_content() { # name, driver
    cat <<END
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshotContent
metadata: {name: $1}
spec:
  driver: $2
  deletionPolicy: Retain
  source: {snapshotHandle: tierce-check}
  volumeSnapshotRef: {namespace: default, name: tierce-check}
END
}
if "$kubectl" get crd volumesnapshotcontents.snapshot.storage.k8s.io >/dev/null 2>&1; then
    only_ours="the controller writes VolumeSnapshotContents of csi.tierce.dev only"
    snapshot_content tierce-check-foreign other.example.org | "$kubectl" create -f - >/dev/null
    expect ok "the controller makes a VolumeSnapshotContent" \
        as controller create -f <(snapshot_content tierce-check csi.tierce.dev)
    # Its sidecar may change one as well, and needs more for that than kubectl does.
    expect ok "the controller deletes a VolumeSnapshotContent" \
        as controller delete volumesnapshotcontent tierce-check --wait=false
    expect "$only_ours" "the controller makes a VolumeSnapshotContent of another driver" \
        as controller create -f <(snapshot_content tierce-check-2 other.example.org)
    expect "$only_ours" "the controller deletes a VolumeSnapshotContent of another driver" \
        as controller delete volumesnapshotcontent tierce-check-foreign --wait=false
fi
exit "$failed"
