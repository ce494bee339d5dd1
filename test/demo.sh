#!/usr/bin/env bash
# The demo: a server, three sandbox hosts and the cluster "demo" on this machine. `up` twice is harmless.
set -euo pipefail
: "${DATA:?}"
root=$(cd "$(dirname "$0")/.." && pwd)
slipway=$root/bin/slipway
export KUBECONFIG=$DATA/admin.kubeconfig
listen=${LISTEN:-0.0.0.0:8443}
port=${listen##*:}

say() { printf '\n== %s\n' "$*"; }
stages=()
stage() {
  local name=$1 begun ended
  shift
  say "$name"
  begun=$(date +%s.%N)
  "$@"
  ended=$(date +%s.%N)
  stages+=("$(printf '%-32s %6.1f s' "$name" "$(echo "$ended $begun" | awk '{print $1-$2}')")")
}

server_pid() {
  local pid
  pid=$(cat "$DATA/server.pid" 2>/dev/null) || return 1
  [[ $(readlink "/proc/$pid/exe" 2>/dev/null) == "$slipway"* ]] && echo "$pid"
}

start_server() {
  if server_pid >/dev/null; then
    echo "the server is running already"
    return
  fi
  mkdir -p "$DATA"
  chmod 700 "$DATA"
  : >"$DATA/server.out"
  setsid "$slipway" server --data-dir "$DATA" --bundles "$STORE" --listen "$listen" \
    </dev/null >"$DATA/server.out" 2>>"$DATA/server.log" &
  echo $! >"$DATA/server.pid"
  # The server says when it serves; tail ends with it.
  if ! timeout 120 grep -q -m1 '^serving' <(tail -n +1 -f --pid=$! "$DATA/server.out"); then
    echo "the server did not start; its log ends with:" >&2
    tail -n 20 "$DATA/server.log" >&2
    exit 1
  fi
  cat "$DATA/server.out"
}

make_hosts() { "$slipway" sandbox up --data-dir "$DATA" --hosts 3 --register; }

wait_bundle() {
  "$slipway" wait --for=create --timeout=1m "bundle/$KUBERNETES" >/dev/null
  "$slipway" wait --for=condition=Verified --timeout=10m "bundle/$KUBERNETES"
}

make_cluster() {
  if "$slipway" get cluster demo >/dev/null 2>&1; then
    echo "the cluster exists already"
    "$slipway" wait --for=condition=Ready --timeout=10m cluster/demo
    return
  fi
  "$slipway" cluster create demo --kubernetes "$KUBERNETES" \
    --control-plane sandbox-1 --worker sandbox-2 --worker sandbox-3
}

up() {
  stage "start the server" start_server
  stage "make three hosts" make_hosts
  stage "verify the bundle" wait_bundle
  stage "create the cluster demo" make_cluster
  "$slipway" cluster kubeconfig demo --output "$DATA/demo.kubeconfig"
  say "the cluster"
  "$slipway" --kubeconfig "$DATA/demo.kubeconfig" get nodes -o wide
  "$slipway" --kubeconfig "$DATA/demo.kubeconfig" get pods -A
  say "times"
  printf '%s\n' "${stages[@]}"
  cat <<EOF

server:               https://127.0.0.1:$port
platform kubeconfig:  $DATA/admin.kubeconfig
cluster kubeconfig:   $DATA/demo.kubeconfig
try:                  $slipway --kubeconfig $DATA/demo.kubeconfig get pods -A
                      $slipway --kubeconfig $DATA/admin.kubeconfig get clusters,hosts,operations
remove it all:        make demo-down
EOF
}

down() {
  local pid
  if pid=$(server_pid); then
    kill "$pid"
    timeout 60 tail -f --pid="$pid" /dev/null || kill -KILL "$pid"
  fi
  if [[ -x $slipway && -d $DATA ]]; then
    "$slipway" sandbox down --data-dir "$DATA"
  fi
  rm -rf "$DATA"
  echo "removed"
}

case ${1:-} in
up) up ;;
down) down ;;
*)
  echo "usage: $0 up|down" >&2
  exit 2
  ;;
esac
