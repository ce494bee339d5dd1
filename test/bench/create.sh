#!/usr/bin/env bash
# Compares `slipway cluster create` with the hand-written script, on fresh sandbox hosts each time, in alternating pairs.
# Needs SLIPWAY, STORE and KUBERNETES; PAIRS (default 5), CONTROL_PLANES (default 1) and WORKERS (default 2). Progress goes to
# stderr, the report (Markdown) to stdout.
# OUT, when set, keeps what each run printed and what each step took.
set -euo pipefail
: "${SLIPWAY:?}" "${STORE:?}" "${KUBERNETES:?}"
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=measure.sh
. "$here/measure.sh"
pairs=${PAIRS:-5} control_planes=${CONTROL_PLANES:-1} workers=${WORKERS:-2}
nodes=$((control_planes + workers))
work=$(mktemp -d)
out=${OUT:-$work/out}
mkdir -p "$out"
server='' data=''

hosts_down() {
  local address bridge port
  stop_server
  [[ -n $data ]] || return 0
  # Connections of a cluster that is killed keep its hosts' networks for up to two minutes; without its ports the bridge
  # need not wait for them.
  address=$("$SLIPWAY" sandbox list --data-dir "$data" -o json | jq -r '.[0].address // empty')
  if [[ -n $address ]]; then
    bridge=$(ip -o route get "$address" | sed -n 's/.* dev \([^ ]*\).*/\1/p')
    for port in /sys/class/net/"$bridge"/brif/*; do
      [[ ! -e $port ]] || ip link delete dev "${port##*/}"
    done
  fi
  "$SLIPWAY" sandbox down --data-dir "$data" >>"$out/sandbox.log" 2>&1
  rm -rf "$data"
  data=
}
trap 'status=$?; hosts_down || echo "cannot remove the hosts of $data" >&2; rm -rf "$work"; exit $status' EXIT
trap 'exit 130' INT TERM

say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }

go build -o "$work/prepare" "$here/prepare"
"$work/prepare" "$STORE" "$KUBERNETES" "$work/bits"

# settle makes the runs alike: nothing left to write back, and both sides' bits in memory.
settle() {
  sync
  cat "$work"/bits/*.tar "$STORE"/blobs/sha256/* >/dev/null
}

# layout says which host is what, as `slipway cluster create` takes it.
layout() {
  local n
  for ((n = 1; n <= nodes; n++)); do
    ((n <= control_planes)) && echo "--control-plane=sandbox-$n" || echo "--worker=sandbox-$n"
  done
  ((control_planes == 1)) || echo "--virtual-ip=$(virtual_ip)"
}

# virtual_ip prints an address of the hosts' network that none of them has.
virtual_ip() { "$SLIPWAY" sandbox list --data-dir "$data" -o json | jq -r '.[0].address | sub("[0-9]+$"; "200")'; }

# failover cuts the power of the control plane that has the cluster's address, and prints how long the address gave no
# answer.
failover() {
  local kubectl=("$work/bits/kubectl" --kubeconfig "$1" --request-timeout=1s) holder cut deadline=$((SECONDS + 120))
  holder=$("${kubectl[@]}" get lease --namespace kube-system plndr-cp-lock -o 'jsonpath={.spec.holderIdentity}')
  cut=$(now)
  "$SLIPWAY" sandbox kill "$holder" --data-dir "$data" >>"$out/sandbox.log" 2>&1
  until "${kubectl[@]}" get --raw /readyz >/dev/null 2>&1; do
    ((SECONDS < deadline)) || { echo "the address did not come back" >&2; return 1; }
    sleep 0.05
  done
  since "$cut"
}

# Each run leaves seconds, CPU-seconds and stolen seconds in the file NAME.
record() {
  local cpu_after
  cpu_after=$(busy)
  echo "$2 $(echo "$3 $cpu_after" | awk '{printf "%.1f %.1f", $3-$1, $4-$2}') $4" >"$work/$1"
  say "$1: $(cat "$work/$1")  (seconds, CPU-seconds, stolen, its own end)"
}

run_slipway() {
  local name=$1 begun cpu own hosts
  data=$work/$name.data
  start_server "$data" 0.0.0.0:0
  export KUBECONFIG=$data/admin.kubeconfig
  "$SLIPWAY" sandbox up --data-dir "$data" --hosts "$nodes" --register >>"$out/sandbox.log" 2>&1
  "$SLIPWAY" wait --for=condition=Verified --timeout=10m "bundle/$KUBERNETES" >/dev/null
  "$SLIPWAY" wait --for=condition=Reachable --timeout=2m host --all >/dev/null
  mapfile -t hosts < <(layout)
  settle
  cpu=$(busy) begun=$(now)
  "$SLIPWAY" cluster create bench --kubernetes "$KUBERNETES" "${hosts[@]}" >"$out/$name.log" 2>&1
  own=$(since "$begun")
  "$SLIPWAY" cluster kubeconfig bench --output "$data/bench.kubeconfig" >/dev/null
  probe "$work/bits/kubectl" "$data/bench.kubeconfig" "$nodes"
  record "$name" "$(since "$begun")" "$cpu" "$own"
  if ((control_planes > 1)); then
    "$SLIPWAY" cluster kubeconfig bench --break-glass --reason "asked past Slipway" --output "$data/straight.kubeconfig" >/dev/null
    failover "$data/straight.kubeconfig" >"$work/$name.failover"
  fi
  "$SLIPWAY" get operations,hostruns -A -o yaml >"$out/$name.yaml"
  cp "$data/server.log" "$out/$name.server.log"
  hosts_down
}

run_script() {
  local name=$1 begun cpu own address=''
  data=$work/$name.data
  "$SLIPWAY" sandbox up --data-dir "$data" --hosts "$nodes" >>"$out/sandbox.log" 2>&1
  "$SLIPWAY" sandbox list --data-dir "$data" -o json >"$work/hosts.json"
  ((control_planes == 1)) || address=$(virtual_ip)
  settle
  cpu=$(busy) begun=$(now)
  CONTROL_PLANES=$control_planes VIRTUAL_IP=$address "$here/baseline.sh" "$work/bits" "$work/hosts.json" "$data/ssh" >"$out/$name.log" 2>&1
  own=$(since "$begun")
  probe "$work/bits/kubectl" "$data/ssh/admin.conf" "$nodes"
  record "$name" "$(since "$begun")" "$cpu" "$own"
  ((control_planes == 1)) || failover "$data/ssh/admin.conf" >"$work/$name.failover"
  cp "$data/ssh/marks" "$out/$name.marks"
  hosts_down
}

for ((i = 1; i <= pairs; i++)); do
  if ((i % 2)); then
    run_slipway "slipway-$i"
    run_script "script-$i"
  else
    run_script "script-$i"
    run_slipway "slipway-$i"
  fi
done

column() { for ((i = 1; i <= pairs; i++)); do awk -v c="$2" '{print $c}' "$work/$1-$i"; done; }
ratios() { paste <(column slipway 1) <(column script 1) | awk '{printf "%.3f\n", $1/$2}'; }

cat <<END
## Create time: control planes $control_planes, workers $workers

From bare hosts to $nodes Ready nodes with CoreDNS, kube-proxy and flannel available, as an outside prober sees it. Fresh hosts
for each run; the order alternates. The script is \`test/bench/baseline.sh\`. CPU is that of the whole machine, hosts included.

| pair | slipway s | script s | ratio | slipway CPU s | script CPU s | stolen s |
|---|---|---|---|---|---|---|
END
for ((i = 1; i <= pairs; i++)); do
  paste -d' ' "$work/slipway-$i" "$work/script-$i" |
    awk -v i="$i" '{printf "| %d | %.1f | %.1f | %.2f | %.1f | %.1f | %.1f |\n", i, $1, $5, $1/$5, $2, $6, $3+$7}'
done
cat <<END
| median | $(column slipway 1 | median) | $(column script 1 | median) | $(ratios | median) | $(column slipway 2 | median) | $(column script 2 | median) | |

Ratio slipway / script: median $(ratios | median), from $(ratios | sort -n | head -1) to $(ratios | sort -n | tail -1) over $pairs pairs.
END
if ((control_planes > 1)); then
  for side in slipway script; do
    echo "The power of the control plane with the address is cut: it answers again after (s), by $side: $(cat "$work/$side"-*.failover | sort -n | paste -sd' ')."
  done
fi
