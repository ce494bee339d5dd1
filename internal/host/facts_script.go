package host

// FactsQuery asks what the machine is, in one round trip; DecodeFacts reads it.
func FactsQuery() Query {
	q := newQuery("facts", factsScript)
	q.max = 256 << 10
	return q
}

// factsScript prints one fact a line: its key, a tab, its fields. It loads no module and changes nothing.
const factsScript = `fact() { key=$1; shift; printf '%s' "$key"; printf '\t%s' "$@"; printf '\n'; }
first() { value=; read -r value 2>/dev/null <"$1"; [ -n "$value" ]; }
has() { command -v "$1" >/dev/null 2>&1; }
fact begin "$(date +%s%N)"
fact hostname "$(uname -n)"
fact kernel "$(uname -r)"
fact machine "$(uname -m)"
first /etc/machine-id && fact machineid "$value"
for file in /etc/os-release /usr/lib/os-release; do
	[ -r "$file" ] || continue
	while read -r line || [ -n "$line" ]; do
		case $line in ID=* | VERSION_ID=* | PRETTY_NAME=*) fact os "$line" ;; esac
	done <"$file"
	break
done
fact cpus "$(nproc)"
while read -r key value _; do
	case $key in MemTotal:) fact memtotal "$value"; break ;; esac
done </proc/meminfo
limits() {
	dir=$2
	while :; do
		first "$1$dir/$3" && fact memlimit "$value"
		case $dir in '' | /) break ;; esac
		dir=${dir%/*}
	done
}
while IFS=: read -r _ controllers path; do
	case ,$controllers, in
	*,memory,*) limits /sys/fs/cgroup/memory "$path" memory.limit_in_bytes ;;
	,,) limits /sys/fs/cgroup "$path" memory.max ;;
	esac
done </proc/1/cgroup
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then fact cgroup 2; elif [ -d /sys/fs/cgroup ]; then fact cgroup 1; fi
for dir in /sys/block/*; do
	name=${dir##*/}
	case $name in loop* | ram* | dm-* | zram* | md* | sr* | fd* | nbd* | mmcblk*boot* | mmcblk*rpmb) continue ;; esac
	if first "$dir/hidden" && [ "$value" = 1 ]; then continue; fi
	first "$dir/size" && [ "$value" != 0 ] || continue
	size=$value
	first "$dir/queue/rotational" || value=0
	fact disk "$name" "$size" "$value"
done
for dir in /sys/class/net/*; do
	[ -e "$dir/address" ] || continue
	address= mtu= physical=0
	first "$dir/address" && address=$value
	first "$dir/mtu" && mtu=$value
	[ -e "$dir/device" ] && physical=1
	fact nic "${dir##*/}" "$address" "$mtu" "$physical"
done
ip -o addr show 2>/dev/null | while read -r _ name _ address _; do fact address "${name%%@*}" "$address"; done
for family in 4 6; do
	ip -o "-$family" route show default 2>/dev/null | while read -r line; do fact route "$family" "$line"; done
done
stat -f -c 'free	%n	%a	%S' / /var/lib /usr /etc 2>/dev/null
while read -r key value; do
	case $key in CapEff:) fact capabilities "$value"; break ;; esac
done </proc/self/status
features= missing=
for module in overlay vxlan bridge nf_tables ip_tables br_netfilter; do
	if [ -d "/sys/module/$module" ] || modprobe -n -q "$module" 2>/dev/null; then
		fact feature "$module"
	else
		missing="$missing $module"
	fi
done
if [ -n "$missing" ]; then
	symbols=$(grep -oE ' (ovl_init_fs_context|ovl_mount|vxlan_setup|br_dev_setup|nf_tables_newtable|ipt_do_table|br_nf_pre_routing)$' /proc/kallsyms 2>/dev/null)
	for module in $missing; do
		case "$module $symbols" in
		overlay\ *ovl_* | vxlan\ *vxlan_setup* | bridge\ *br_dev_setup* | nf_tables\ *nf_tables_newtable*) fact feature "$module" ;;
		ip_tables\ *ipt_do_table* | br_netfilter\ *br_nf_pre_routing*) fact feature "$module" ;;
		esac
	done
fi
for tool in apt-get bash blkid chronyd chronyc conntrack containerd crictl curl dnf docker dockerd ethtool find firewall-cmd flock \
	getenforce getent gzip head hostnamectl ip ip6tables ipset iptables iptables-save journalctl kubeadm kubectl kubelet \
	mkfs.ext4 modprobe mount nft nsenter ntpd podman runc setenforce sha256sum socat stat sudo swapoff sync sysctl systemctl \
	systemd-detect-virt systemd-run systemd-timesyncd tail tar timedatectl timeout ufw umount xz yum zstd; do
	has "$tool" && fact tool "$tool"
done
zone=$(readlink -f /etc/localtime)
case $zone in
*/zoneinfo/*) zone=${zone#*/zoneinfo/} ;;
*) if first /etc/timezone; then zone=$value; else zone=$(date +%Z); fi ;;
esac
fact timezone "$zone"
lines=0
if [ -r /proc/swaps ]; then while read -r _; do lines=$((lines + 1)); done </proc/swaps; fi
[ "$lines" -gt 1 ] && fact swap on
if has systemctl && systemctl -q is-active firewalld 2>/dev/null; then
	fact firewall firewalld
elif grep -q '^ENABLED=yes' /etc/ufw/ufw.conf 2>/dev/null; then
	fact firewall ufw
fi
selinux=Disabled
if first /sys/fs/selinux/enforce; then
	if [ "$value" = 1 ]; then selinux=Enforcing; else selinux=Permissive; fi
fi
fact selinux "$selinux"
grep -qE '^[[:space:]]*options[[:space:]]' /etc/resolv.conf 2>/dev/null && fact resolver options
has systemd-detect-virt && fact virtualization "$(systemd-detect-virt 2>/dev/null)"
fact end "$(date +%s%N)"
`
