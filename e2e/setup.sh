#!/usr/bin/env bash
# Installs what the local cluster and the tests need from Debian or Ubuntu. Nothing is started or enabled; what is
# there already, from whatever package, is used. Without root it prints the one command to run.
set -euo pipefail

# A file that proves the package's presence, or a program on the PATH, and the package.
needed=(
  containerd:containerd ctr:containerd runc:runc buildah:buildah mmdebstrap:mmdebstrap
  mkfs.ext4:e2fsprogs chattr:e2fsprogs mkfs.xfs:xfsprogs mkfs.btrfs:btrfs-progs fio:fio
  linux.uml:user-mode-linux lvm:lvm2 thin_check:thin-provisioning-tools cryptsetup:cryptsetup-bin
  dmsetup:dmsetup dmeventd:dmeventd modprobe:kmod
  ip:iproute2 podman:podman podman-compose:podman-compose script:bsdutils
  bsdtar:libarchive-tools python3:python3 bzip2:bzip2 xz:xz-utils zstd:zstd rsync:rsync
  unshare:util-linux losetup:util-linux setpriv:util-linux hostname:hostname
)
PATH=$PATH:/usr/sbin:/sbin
missing=()
for pair in "${needed[@]}"; do
  command -v "${pair%%:*}" >/dev/null || missing+=("${pair#*:}")
done
# Test pods run busybox from an image of nothing else, so it must be the static one.
if ! { command -v busybox && ! ldd "$(command -v busybox)"; } >/dev/null 2>&1; then
  missing+=(busybox-static)
fi
if ! [ -e /usr/lib/cni/ptp ] && ! [ -e /opt/cni/bin/ptp ] && ! [ -e /usr/libexec/cni/ptp ]; then
  missing+=(containernetworking-plugins)
fi

if [ ${#missing[@]} -gt 0 ]; then
  mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)
  if ! command -v apt-get >/dev/null; then
    echo "missing: ${missing[*]} (names of Debian packages); install them with this system's own tools" >&2
    exit 1
  fi
  if [ "$(id -u)" -ne 0 ]; then
    # The unprivileged layers of the tests do not need them, so this is no failure.
    echo "to run the tests that need root, first: sudo apt-get install --no-install-recommends ${missing[*]}"
  else
    log=$(mktemp)
    # A package that brings a service must not start it: the cluster runs its own containerd, and Docker's is left alone.
    blocked=
    if [ ! -e /usr/sbin/policy-rc.d ]; then
      printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
      chmod 755 /usr/sbin/policy-rc.d
      blocked=yes
    fi
    trap '[ -z "$blocked" ] || rm -f /usr/sbin/policy-rc.d' EXIT
    echo "installing ${missing[*]}"
    if ! { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${missing[@]}"; } \
      >"$log" 2>&1; then
      tail -n 20 "$log" >&2
      exit 1
    fi
    rm -f "$log"
  fi
fi
for tool in cargo:https://rustup.rs go:https://go.dev/dl; do
  if ! PATH=$PATH:/usr/local/go/bin command -v "${tool%%:*}" >/dev/null; then
    echo "missing: ${tool%%:*}, see ${tool#*:}" >&2
    exit 1
  fi
done
