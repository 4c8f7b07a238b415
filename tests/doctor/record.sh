#!/bin/sh
# Records what `holdfast doctor` reads from this machine into a folder, without host names, paths of
# services, processor serials or addresses: usage: record.sh FOLDER. As root, slab sizes are recorded too.
set -eu
[ $# -eq 1 ] || { echo "usage: $0 FOLDER" >&2; exit 2; }
out=$1

# Copies a file, through a filter if one is given.
copy() {
    file=$1
    shift
    [ $# -gt 0 ] || set -- cat
    [ -r "$file" ] || return 0
    mkdir -p "$out$(dirname "$file")"
    "$@" <"$file" >"$out$file.new" 2>/dev/null && mv "$out$file.new" "$out$file" || rm -f "$out$file.new"
}

for name in fs/file-max fs/file-nr fs/nr_open fs/epoll/max_user_watches kernel/osrelease kernel/pid_max \
    vm/overcommit_memory net/core/somaxconn net/core/netdev_max_backlog net/core/rmem_max net/core/wmem_max \
    net/ipv4/tcp_max_syn_backlog net/ipv4/tcp_syncookies net/ipv4/tcp_mem net/ipv4/tcp_rmem \
    net/ipv4/tcp_wmem net/ipv4/tcp_max_orphans net/ipv4/tcp_max_tw_buckets net/ipv4/tcp_fin_timeout \
    net/ipv4/ip_local_port_range net/ipv4/tcp_ehash_entries net/netfilter/nf_conntrack_max \
    net/netfilter/nf_conntrack_buckets net/netfilter/nf_conntrack_count \
    net/netfilter/nf_conntrack_tcp_timeout_established; do
    copy "/proc/sys/$name"
done
copy /proc/meminfo
copy /proc/cgroups
copy /proc/net/softnet_stat
copy /proc/self/limits
copy /proc/self/status grep '^Cpus_allowed:'
copy /proc/self/smaps grep -m 1 '^KernelPageSize:'
copy /proc/cpuinfo grep -E '^(processor|flags|Features)'
copy /proc/cmdline grep -o 'cgroup.memory=[a-z]*'
copy /proc/self/cgroup sed 's,:/.*,:/,'
copy /proc/slabinfo grep -E '^(slabinfo|#|TCP|sock_inode|filp|dentry|eventpoll|ep_head|lsm_|nf_conntrack)'
copy /sys/kernel/security/lsm
for name in cgroup.controllers memory.max memory.high memory.current memory/memory.limit_in_bytes \
    memory/memory.usage_in_bytes; do
    copy "/sys/fs/cgroup/$name"
done
for name in eventpoll_epi eventpoll_pwq ep_head lsm_inode_cache lsm_file_cache; do
    [ -L "/sys/kernel/slab/$name" ] || continue
    mkdir -p "$out/sys/kernel/slab"
    ln -sfn "$(readlink "/sys/kernel/slab/$name")" "$out/sys/kernel/slab/$name"
done
copy /etc/security/limits.conf grep -v '^#'
copy /etc/systemd/system.conf grep -E '^\[|^DefaultLimitNOFILE'
