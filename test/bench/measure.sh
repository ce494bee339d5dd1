# What the benches share: a clock, the machine's busy time, a server that is started and stopped, an outside prober.
# shellcheck shell=bash
now() { date +%s.%N; }
since() { echo "$(now) $1" | awk '{printf "%.2f", $1-$2}'; }

# busy prints the CPU-seconds that the whole machine has worked, and those that were stolen from it.
busy() {
  awk -v hz="$(getconf CLK_TCK)" '/^cpu /{printf "%.2f %.2f\n", ($2+$3+$4+$7+$8)/hz, $9/hz}' /proc/stat
}

# start_server DATA LISTEN starts a server of ours and waits until it says that it serves; it sets server and url.
start_server() {
  local data=$1 listen=$2
  mkdir -p -m 700 "$data"
  : >"$data/server.out"
  "$SLIPWAY" server --data-dir "$data" --bundles "$STORE" --listen "$listen" >"$data/server.out" 2>"$data/server.log" &
  server=$!
  if ! timeout 120 grep -q -m1 '^serving' <(tail -n +1 -f --pid=$server "$data/server.out"); then
    echo "the server did not start; its log ends with:" >&2
    tail -n 20 "$data/server.log" >&2
    return 1
  fi
  url=$(sed -n 's/^serving //p' "$data/server.out")
  url=https://127.0.0.1:${url##*:}
}

stop_server() {
  [[ -n ${server:-} ]] || return 0
  kill "$server" 2>/dev/null || true
  wait "$server" || echo "the server ended with exit code $?" >&2
  server=
}

# resident PID prints the resident memory of a process, all of it and without mapped files, and its highest, in MiB.
resident() {
  awk '/^VmRSS/{r=$2} /^RssAnon/{a=$2} /^VmHWM/{h=$2} END{printf "%.0f %.0f %.0f\n", r/1024, a/1024, h/1024}' "/proc/$1/status"
}

# probe KUBECTL KUBECONFIG COUNT asks the new cluster itself whether it is done: COUNT nodes and no more, all Ready, CoreDNS,
# kube-proxy and flannel available. It asks until it is, for five minutes.
probe() {
  local kubectl=("$1" --kubeconfig "$2" --request-timeout=5s) deadline=$((SECONDS + 300)) nodes workloads
  while ((SECONDS < deadline)); do
    nodes=$("${kubectl[@]}" get nodes -o json 2>/dev/null |
      jq '[.items[] | select(any(.status.conditions[]; .type=="Ready" and .status=="True"))] | length') || nodes=
    if [[ $nodes == "$3" ]]; then
      workloads=$("${kubectl[@]}" get deployments,daemonsets --all-namespaces -o json 2>/dev/null | jq '
        [.items[] | select(
          (.kind=="Deployment" and .metadata.name=="coredns" and .status.availableReplicas==.spec.replicas) or
          (.kind=="DaemonSet" and (.metadata.name=="kube-proxy" or .metadata.name=="kube-flannel-ds") and
            .status.numberAvailable=='"$3"' and .status.observedGeneration==.metadata.generation))] | length') || workloads=
      [[ $workloads != 3 ]] || return 0
    fi
    sleep 0.1
  done
  echo "the prober gave up: the cluster is not available" >&2
  return 1
}

# median reads numbers, one a line.
median() { sort -n | awk '{v[NR]=$1} END{if (NR==0) print "-"; else printf "%.2f\n", NR%2 ? v[(NR+1)/2] : (v[NR/2]+v[NR/2+1])/2}'; }
