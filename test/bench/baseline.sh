#!/usr/bin/env bash
# The best hand-written script that makes the cluster which `slipway cluster create` makes, from the same bits, over the same
# SSH, to the same end. It is what Slipway's time is compared with.
# Usage: baseline.sh BITS HOSTS.json WORK   (BITS: written by ./test/bench/prepare; HOSTS: `slipway sandbox list -o json`)
# The first CONTROL_PLANES hosts (1 by default) become control planes, which join one after another as kubeadm wants it; with
# several of them VIRTUAL_IP is the address that kube-vip moves among them.
# It leaves WORK/admin.conf. The hosts must be bare; `slipway sandbox down` cleans up after it.
set -euo pipefail
bits=$1 work=$3
mkdir -p "$work"
# shellcheck disable=SC1091
. "$bits/images.env"
mapfile -t names < <(jq -r '.[].name' "$2")
mapfile -t addresses < <(jq -r '.[].address' "$2")
key=$(jq -r '.[0].keyFile' "$2")
version=${IMAGE_KUBE_APISERVER##*:}
control_planes=${CONTROL_PLANES:-1}
((control_planes == 1)) || : "${VIRTUAL_IP:?}"
endpoint=${VIRTUAL_IP:-${addresses[0]}}:6443
kubectl=("$bits/kubectl" --kubeconfig "$work/admin.conf")
manifest=$(dirname "$0")/../../internal/step/flannel/testdata/manifest.golden

# The fastest cipher with hardware help; one connection a host that every command shares.
on() {
  local host=$1
  shift
  ssh -i "$key" -o BatchMode=yes -o StrictHostKeyChecking=no -o UserKnownHostsFile=/dev/null -o LogLevel=ERROR \
    -o Ciphers=aes128-gcm@openssh.com -o Compression=no \
    -o ControlMaster=auto -o ControlPath="$work/%h" -o ControlPersist=300 "root@$host" "$@"
}
begun=$(date +%s.%N)
mark() { printf '%6.1f  %s\n' "$(echo "$(date +%s.%N) $begun" | awk '{print $1-$2}')" "$*" >>"$work/marks"; }
finish() {
  local status=$? pids
  pids=$(jobs -p)
  # shellcheck disable=SC2086
  [[ -z $pids ]] || kill $pids 2>/dev/null || true
  for a in "${addresses[@]}"; do ssh -O exit -o ControlPath="$work/%h" "root@$a" 2>/dev/null || true; done
  exit "$status"
}
trap finish EXIT
# Waits for each process; one that failed ends the script.
all() { for p in "$@"; do wait "$p"; done; }

token=$(head -c 32 /dev/urandom | sha256sum | awk '{print substr($1,1,6) "." substr($1,7,16)}')

# Everything that Slipway writes before programs arrive, in the same words.
setup() {
  cat <<'SETUP'
set -eu
mkdir -p /etc/containerd /etc/kubernetes /etc/modules-load.d /etc/sysctl.d /etc/systemd/system/kubelet.service.d /etc/cni/net.d /opt/cni/bin
for m in overlay br_netfilter; do modprobe --quiet -- $m || true; done
printf 'overlay\nbr_netfilter\n' >/etc/modules-load.d/bench.conf
cat >/etc/sysctl.d/90-bench.conf <<'END'
net.bridge.bridge-nf-call-ip6tables = 1
net.bridge.bridge-nf-call-iptables = 1
net.ipv4.ip_forward = 1
END
sysctl --quiet --load=/etc/sysctl.d/90-bench.conf
v1=false restrict=true
[ "$(stat -f -c %T /sys/fs/cgroup)" = cgroup2fs ] || v1=true
[ $((0x$(awk '/^CapEff/{print $2}' /proc/self/status) >> 24 & 1)) = 0 ] || restrict=false
[ $v1 = true ] && driver=false || driver=true
cat >/etc/containerd/config.toml <<END
version = 3
root = "/var/lib/containerd"
state = "/run/containerd"

[grpc]
address = "/run/containerd/containerd.sock"

[plugins."io.containerd.cri.v1.images".pinned_images]
sandbox = "$PAUSE"

[plugins."io.containerd.cri.v1.runtime"]
restrict_oom_score_adj = $restrict

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.cri.v1.runtime".containerd.runtimes.runc.options]
SystemdCgroup = $driver
BinaryName = "/usr/local/bin/runc"
END
printf 'runtime-endpoint: unix:///run/containerd/containerd.sock\nimage-endpoint: unix:///run/containerd/containerd.sock\n' >/etc/crictl.yaml
cat >/etc/systemd/system/containerd.service <<'END'
[Unit]
Description=containerd container runtime
After=network.target dbus.service

[Service]
ExecStart=/usr/local/bin/containerd
Type=notify
Delegate=yes
KillMode=process
Restart=always
RestartSec=2
LimitNPROC=infinity
LimitCORE=infinity
TasksMax=infinity

[Install]
WantedBy=multi-user.target
END
cat >/etc/systemd/system/kubelet.service <<'END'
[Unit]
Description=kubelet
Wants=network-online.target containerd.service
After=network-online.target containerd.service

[Service]
ExecStart=/usr/local/bin/kubelet
Restart=always
StartLimitInterval=0
RestartSec=2

[Install]
WantedBy=multi-user.target
END
cat >/etc/systemd/system/kubelet.service.d/10-kubeadm.conf <<'END'
[Service]
Environment="KUBELET_KUBECONFIG_ARGS=--bootstrap-kubeconfig=/etc/kubernetes/bootstrap-kubelet.conf --kubeconfig=/etc/kubernetes/kubelet.conf"
Environment="KUBELET_CONFIG_ARGS=--config=/var/lib/kubelet/config.yaml"
EnvironmentFile=-/var/lib/kubelet/kubeadm-flags.env
ExecStart=
ExecStart=/usr/local/bin/kubelet $KUBELET_KUBECONFIG_ARGS $KUBELET_CONFIG_ARGS $KUBELET_KUBEADM_ARGS
END
umask 077
if [ -n "$VIRTUAL_IP" ] && [ "$ROLE" != worker ]; then
  # Until the first control plane is up, only super-admin.conf has rights.
  [ "$ROLE" = init ] && conf=super-admin || conf=admin
  mkdir -p /etc/kubernetes/manifests
  cat >/etc/kubernetes/manifests/kube-vip.yaml <<END
apiVersion: v1
kind: Pod
metadata: {name: kube-vip, namespace: kube-system}
spec:
  hostNetwork: true
  priorityClassName: system-node-critical
  hostAliases: [{ip: 127.0.0.1, hostnames: [kubernetes]}]
  containers:
  - name: kube-vip
    image: $KUBE_VIP
    imagePullPolicy: IfNotPresent
    args: [manager]
    env:
    - {name: address, value: "$VIRTUAL_IP"}
    - {name: port, value: "6443"}
    - {name: vip_interface, value: $(ip -o route show default | awk '{print $5; exit}')}
    - {name: vip_subnet, value: "32"}
    - {name: vip_arp, value: "true"}
    - {name: cp_enable, value: "true"}
    - {name: cp_namespace, value: kube-system}
    - {name: vip_leaderelection, value: "true"}
    - {name: vip_leasename, value: plndr-cp-lock}
    - {name: vip_leaseduration, value: "5"}
    - {name: vip_renewdeadline, value: "3"}
    - {name: vip_retryperiod, value: "1"}
    - {name: vip_arpRate, value: "500"}
    - {name: vip_nodename, value: $NAME}
    securityContext: {capabilities: {add: [NET_ADMIN, NET_RAW], drop: [ALL]}}
    volumeMounts: [{name: kubeconfig, mountPath: /etc/kubernetes/admin.conf, readOnly: true}]
  volumes: [{name: kubeconfig, hostPath: {path: /etc/kubernetes/$conf.conf, type: File}}]
END
fi
if [ "$ROLE" != init ]; then
  cat >/etc/kubernetes/kubeadm.yaml <<END
apiVersion: kubeadm.k8s.io/v1beta4
kind: JoinConfiguration
discovery:
  file: {kubeConfigPath: /etc/kubernetes/discovery.conf}
  tlsBootstrapToken: $TOKEN
nodeRegistration:
  name: $NAME
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: IfNotPresent
  kubeletExtraArgs: [{name: node-ip, value: $ADDRESS}]
END
  if [ "$ROLE" = worker ]; then
    echo '  taints: []'
  else
    printf '  taints: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]\n'
    echo "controlPlane: {localAPIEndpoint: {advertiseAddress: $ADDRESS, bindPort: 6443}}"
  fi >>/etc/kubernetes/kubeadm.yaml
  exit 0
fi
[ $v1 = true ] && cgroup='failCgroupV1: false' || cgroup=
if systemd-detect-virt --quiet --container; then
  conntrack='conntrack: {maxPerCore: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}'
else
  conntrack=
fi
cat >/etc/kubernetes/kubeadm.yaml <<END
apiVersion: kubeadm.k8s.io/v1beta4
kind: InitConfiguration
bootstrapTokens:
- token: $TOKEN
  ttl: 2h0m0s
  usages: [signing, authentication]
  groups: ["system:bootstrappers:kubeadm:default-node-token"]
localAPIEndpoint: {advertiseAddress: $ADDRESS, bindPort: 6443}
nodeRegistration:
  name: $NAME
  criSocket: unix:///run/containerd/containerd.sock
  imagePullPolicy: IfNotPresent
  kubeletExtraArgs: [{name: node-ip, value: $ADDRESS}]
  taints: [{key: node-role.kubernetes.io/control-plane, effect: NoSchedule}]
---
apiVersion: kubeadm.k8s.io/v1beta4
kind: ClusterConfiguration
clusterName: bench
kubernetesVersion: $VERSION
controlPlaneEndpoint: $ENDPOINT
imageRepository: registry.k8s.io
encryptionAlgorithm: ECDSA-P256
networking: {podSubnet: 172.25.0.0/16, serviceSubnet: 10.96.0.0/16, dnsDomain: cluster.local}
apiServer: {certSANs: [$ADDRESS]}
etcd: {local: {dataDir: /var/lib/etcd, imageTag: $ETCD}}
dns: {imageTag: $DNS}
---
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
maxPods: 110
serializeImagePulls: false
$cgroup
---
apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
clusterCIDR: 172.25.0.0/16
$conntrack
END
SETUP
}

# prepare brings one bare host to where kubeadm can start: programs, running containerd, images pinned. Images are imported
# while the Kubernetes programs are copied.
prepare() {
  local n=$1 role=$2 host=${addresses[$1]}
  { printf 'NAME=%s ADDRESS=%s ROLE=%s TOKEN=%s VERSION=%s PAUSE=%s ETCD=%s DNS=%s ENDPOINT=%s VIRTUAL_IP=%s KUBE_VIP=%s\n' \
      "${names[$n]}" "$host" "$role" "$token" "$version" "$IMAGE_PAUSE" "${IMAGE_ETCD##*:}" "${IMAGE_COREDNS##*:}" \
      "$endpoint" "${VIRTUAL_IP:-}" "${IMAGE_KUBE_VIP:-}"; setup; } | on "$host" sh -s
  on "$host" 'tar -xf - -C / --no-same-owner && systemctl daemon-reload && systemctl enable --quiet containerd kubelet && systemctl start containerd' \
    <"$bits/runtime.tar"
  on "$host" 'tar -xf - -C / --no-same-owner' <"$bits/kubernetes.tar" &
  local copying=$!
  local archive
  for archive in $(archives "$role"); do
    on "$host" 'ctr --namespace k8s.io images import --local - >/dev/null 2>&1' <"$bits/$archive-images.tar"
  done
  all $copying
  mark "${names[$n]} is prepared"
}

archives() {
  [[ $1 != worker ]] || { echo worker; return; }
  echo control-plane
  [[ -z ${VIRTUAL_IP:-} ]] || echo kube-vip
}

# Pinning is not needed for the start, so it does not delay it.
pin() {
  on "$1" 'for i in $(ctr --namespace k8s.io images ls -q 2>/dev/null | grep -v @); do ctr --namespace k8s.io images label "$i" io.cri-containerd.pinned=pinned >/dev/null 2>&1; done'
}

join() {
  local host=${addresses[$1]}
  on "$host" 'umask 077; cat >/etc/kubernetes/discovery.conf; kubeadm join --config /etc/kubernetes/kubeadm.yaml --skip-phases=preflight >/var/log/kubeadm.log 2>&1 || { cat /var/log/kubeadm.log; exit 1; }; rm /etc/kubernetes/discovery.conf' \
    <"$work/discovery.conf" >&2
  mark "${names[$1]} has joined"
}

# Without flannel's own plugin a host needs the CNI configuration that names its pod network: it is written once known.
networks() {
  local host network n left=${#names[@]}
  local -A done=()
  # The watch ends when its reader does.
  while read -r host network; do
    [[ -n $network && -z ${done[$host]:-} ]] || continue
    done[$host]=1
    for n in "${!names[@]}"; do [[ ${names[$n]} != "$host" ]] || network_of "$n" "$network" & done
    left=$((left - 1))
    ((left)) || break
  done < <(exec "${kubectl[@]}" get nodes --watch --no-headers -o custom-columns=N:.metadata.name,C:.spec.podCIDR | grep --line-buffered -v '<none>')
  wait
}

network_of() {
  on "${addresses[$1]}" "NET=$2 sh -s" <<'SCRIPT'
mtu=$(($(cat /sys/class/net/$(ip -o route show default | awk '{print $5; exit}')/mtu) - 50))
cat >/etc/cni/net.d/.bench <<END
{"cniVersion": "1.0.0", "name": "bench", "plugins": [
  {"type": "bridge", "bridge": "cni0", "isGateway": true, "isDefaultGateway": true, "hairpinMode": true, "forceAddress": true,
   "ipMasq": false, "mtu": $mtu, "ipam": {"type": "host-local", "ranges": [[{"subnet": "$NET"}]]}},
  {"type": "portmap", "capabilities": {"portMappings": true}}]}
END
mv /etc/cni/net.d/.bench /etc/cni/net.d/10-bench.conflist
SCRIPT
}

: >"$work/marks"
prepare 0 init &
prepared=($!)
# ORDER=first copies to the control plane alone, so that its start overlaps with the copying to workers.
[[ ${ORDER:-together} != first ]] || all "${prepared[0]}"
for ((n = 1; n < ${#names[@]}; n++)); do
  ((n < control_planes)) && role=control-plane || role=worker
  prepare "$n" "$role" &
  prepared[n]=$!
done
all "${prepared[0]}"
# What workers do not wait for comes after what they do: add-ons and the kubelet's certificate.
on "${addresses[0]}" 'kubeadm init --config /etc/kubernetes/kubeadm.yaml --skip-phases=preflight,upload-certs,kubelet-finalize,addon,show-join-command >/var/log/kubeadm.log 2>&1 || { cat /var/log/kubeadm.log; exit 1; }; cat /etc/kubernetes/admin.conf' >"$work/admin.conf"
mark "kubeadm init has ended"
cat >"$work/discovery.conf" <<END
apiVersion: v1
kind: Config
clusters:
- name: bench
  cluster: {server: "https://$endpoint", certificate-authority-data: $(awk '/certificate-authority-data/{print $2}' "$work/admin.conf")}
contexts:
- name: bench
  context: {cluster: bench, user: bench}
current-context: bench
users:
- name: bench
  user: {token: $token}
END
# CoreDNS that starts before the API's Service works fails its first readiness probe, and the next comes ten seconds later.
on "${addresses[0]}" 'bash -s' >/dev/null <<'SCRIPT' &
set -e
kubeadm init phase addon kube-proxy --config /etc/kubernetes/kubeadm.yaml
kubeadm init phase kubelet-finalize all --config /etc/kubernetes/kubeadm.yaml
until [ -e /etc/cni/net.d/10-bench.conflist ] && timeout 1 bash -c '</dev/tcp/10.96.0.1/443' 2>/dev/null; do sleep 0.1; done
kubeadm init phase addon coredns --config /etc/kubernetes/kubeadm.yaml
SCRIPT
addons=$!
sed -e "s/10\.9\.0\.11/${addresses[0]}/" -e "s#image: .*/flannel:.*#image: $IMAGE_FLANNEL#" "$manifest" |
  "${kubectl[@]}" apply --server-side --validate=false -f - >/dev/null &
flannel=$!
networks &
watching=$!
if ((control_planes > 1)); then
  # super-admin.conf was for the start only.
  on "${addresses[0]}" 'sed -i s/super-admin.conf/admin.conf/ /etc/kubernetes/manifests/kube-vip.yaml'
  on "${addresses[0]}" 'cd /etc/kubernetes && tar -cf - pki/ca.* pki/sa.* pki/front-proxy-ca.* pki/etcd/ca.*' >"$work/pki.tar"
fi
# etcd takes one new member at a time, so control planes join one after another; workers need not wait for them.
control_planes_join() {
  local n
  for ((n = 1; n < control_planes; n++)); do
    on "${addresses[$n]}" 'umask 077; tar -xf - -C /etc/kubernetes' <"$work/pki.tar"
    join "$n"
  done
}
for ((n = 1; n < control_planes; n++)); do all "${prepared[$n]}"; done
control_planes_join &
joined=($!)
for ((n = control_planes; n < ${#names[@]}; n++)); do
  all "${prepared[$n]}"
  join "$n" &
  joined+=($!)
done
pins=()
for a in "${addresses[@]}"; do
  pin "$a" &
  pins+=($!)
done
all $addons $flannel "${joined[@]}" $watching
mark "all have joined, networks are written"
"${kubectl[@]}" wait --timeout=5m --for=condition=Ready "${names[@]/#/node/}" >/dev/null
mark "all nodes are Ready"
"${kubectl[@]}" --namespace kube-flannel rollout status --timeout=5m daemonset/kube-flannel-ds >/dev/null
"${kubectl[@]}" --namespace kube-system rollout status --timeout=5m daemonset/kube-proxy >/dev/null
"${kubectl[@]}" --namespace kube-system rollout status --timeout=5m deployment/coredns >/dev/null
all "${pins[@]}"
mark "network, proxy and DNS are available"
