#!/bin/bash
# PID 1 of a guest of the disk lab. The host's root is the read-only lower layer of an overlay: what the guest writes
# stays in its memory, except in the folder of this script and those that $lab/shared lists.
# Every program that is started here costs 10 to 30 ms of each boot.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TERM=dumb LANG=C.UTF-8

if [ -z "$lab" ]; then
  export lab=${0%/*}
  # For an ordinary user's guest the host's own `mount` would drop root's rights: its owner is not root there.
  PATH=$lab/bin:$PATH
  mount -t proc proc /proc
  mount -t tmpfs -o mode=755 tmpfs /mnt
  mkdir /mnt/{upper,work}
  read -r release </proc/sys/kernel/osrelease
  read -r modules <"$lab/kernel"
  insmod "$modules/$release/kernel/fs/overlayfs/overlay.ko"
  links=()
  {
    echo overlay /mnt/overlay overlay X-mount.mkdir,nosuid,lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work
    # hostfs and overlay can't be exported by NFS, so / itself is a tmpfs.
    echo root /mnt/root tmpfs X-mount.mkdir,mode=755
    for entry in /*; do
      case $entry in /proc | /sys | /dev | /run | /tmp | /mnt | /host) continue ;; esac
      if [ -L "$entry" ]; then
        links+=("$entry")
      elif [ -d "$entry" ]; then
        echo "/mnt/overlay$entry /mnt/root$entry none X-mount.mkdir,bind"
      fi
    done
    echo proc /mnt/root/proc proc X-mount.mkdir
    echo sys /mnt/root/sys sysfs X-mount.mkdir
    echo cgroup /mnt/root/sys/fs/cgroup cgroup2
    echo dev /mnt/root/dev devtmpfs X-mount.mkdir
    echo pts /mnt/root/dev/pts devpts X-mount.mkdir
    echo shm /mnt/root/dev/shm tmpfs X-mount.mkdir
    echo run /mnt/root/run tmpfs X-mount.mkdir,mode=755
    echo tmp /mnt/root/tmp tmpfs X-mount.mkdir
    echo mnt /mnt/root/mnt tmpfs X-mount.mkdir
    echo "${modules// /\\040} /mnt/root/usr/lib/modules none X-mount.mkdir,bind"
    # The host's Podman keeps its containers where a guest's can't read them, and they are none of the guest's.
    [ ! -d /var/lib/containers ] || echo containers /mnt/root/var/lib/containers tmpfs mode=700
    # What a job must see and would not, below /tmp for instance; and what it may write.
    for list in visible shared; do
      [ "$list" = visible ] && lower=/mnt/overlay || lower=
      while IFS= read -r folder; do
        folder=${folder// /\\040}
        [ -z "$folder" ] || echo "$lower$folder /mnt/root$folder none X-mount.mkdir,bind"
      done <"$lab/$list"
    done
    echo "$lab /mnt/root$lab none X-mount.mkdir,bind"
  } >/mnt/fstab
  mount --all --fstab /mnt/fstab
  cp -P "${links[@]}" /mnt/root
  mkdir -p /mnt/root/{host,etc/lvm,run/lock/lvm}
  cd /mnt/root || exit
  pivot_root . host
  exec chroot . /bin/bash "$0"
fi

PATH=${PATH#*:}
ln -s /proc/self/fd /dev/fd
# Some 700 terminals that every LVM command would look at.
rm -f /dev/tty[a-zA-RT-Z]* /dev/pty* /dev/tty[0-9][0-9]*
read -r name <"$lab/name"
echo "$name" >/proc/sys/kernel/hostname
ip link set lo up
read -ra modules <"$lab/modules"
modprobe --all "${modules[@]}"

# No udevd runs here: LVM and dmsetup make their device nodes themselves.
export LVM_SUPPRESS_FD_WARNINGS=1 DM_DISABLE_UDEV=1
echo '
devices { use_devicesfile=0 global_filter=["a|^/dev/ubd|","a|^/dev/sd|","a|^/dev/loop|","r|.*|"] obtain_device_list_from_udev=0
  external_device_info_source="none" hints="none" multipath_component_detection=0 md_component_detection=0 }
activation { udev_sync=0 udev_rules=0 monitoring=0 reserved_memory=0 reserved_stack=0 }
backup { backup=0 archive=0 }
global { use_lvmpolld=0 notify_dbus=0 thin_check_options=["-q","--clear-needs-check-flag"] }
log { syslog=0 }' >/etc/lvm/lvm.conf

# The serial line: a job's name comes in; its output goes out, then a mark with its exit status.
stty -F /dev/ttyS0 raw -echo
exec 9<>/dev/ttyS0
read -r mark <"$lab/mark"
printf '\036%s 0\n' "$mark" >&9
while IFS= read -r job <&9; do
  [ "$job" = off ] && break
  bash "$lab/$job" </dev/null >&9 2>&1 9>&-
  printf '\036%s %d\n' "$mark" $? >&9
done
sync
echo o >/proc/sysrq-trigger
sleep 60
