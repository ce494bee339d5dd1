#!/usr/bin/env bash
# Measures the server by itself: start on an empty disk, idle memory, stop, and memory with many hosts and clusters.
# Needs SLIPWAY, STORE and KUBERNETES; STARTS (5), HOSTS (10000), CLUSTERS (1000), PORT (18443). The report goes
# to stdout. KEEP, when set, is a folder that gets the log of the loaded server.
set -euo pipefail
: "${SLIPWAY:?}" "${STORE:?}" "${KUBERNETES:?}"
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR source=measure.sh
. "$here/measure.sh"
starts=${STARTS:-5} hosts=${HOSTS:-10000} clusters=${CLUSTERS:-1000} port=${PORT:-18443}
work=$(mktemp -d)
server=''
trap 'status=$?; stop_server; rm -rf "$work"; exit $status' EXIT
trap 'exit 130' INT TERM
say() { printf '%s %s\n' "$(date +%T)" "$*" >&2; }

go build -o "$work/load" "$here/load"

row() { echo "| $1 | $2 |"; }
mib() { echo "$1" | awk '{print $1 " MiB (without mapped files " $2 ", highest " $3 ")"}'; }

# ready asks /readyz as any client may, until it says ok.
ready() {
  local deadline=$((SECONDS + 60))
  until [[ $(curl --silent --insecure --max-time 2 "https://127.0.0.1:$port/readyz") == ok ]]; do
    if ((SECONDS > deadline)) || ! kill -0 "$server" 2>/dev/null; then
      echo "the server did not become ready; its log ends with:" >&2
      tail -n 20 "$1/server.log" >&2
      return 1
    fi
    sleep 0.02
  done
}

# launch starts a server without waiting for what it says.
launch() {
  mkdir -p -m 700 "$1"
  "$SLIPWAY" server --data-dir "$1" --bundles "$STORE" --listen "127.0.0.1:$port" >"$1/server.out" 2>>"$1/server.log" &
  server=$!
}

# worked prints the CPU-seconds of the server so far.
worked() { awk -v hz="$(getconf CLK_TCK)" '{sub(/^.*\) /, ""); printf "%.2f\n", ($12+$13)/hz}' "/proc/$server/stat"; }

# quiet waits until the server uses less than a fifth of a processor for ten seconds, at most ten minutes; it prints how long.
quiet() {
  local begun before deadline=$((SECONDS + 600))
  begun=$(now)
  while ((SECONDS < deadline)); do
    before=$(worked)
    sleep 10
    if echo "$(worked) $before" | awk '{exit !($1-$2 < 2)}'; then
      since "$begun"
      return
    fi
  done
  printf 'not within 600'
}

for ((i = 1; i <= starts; i++)); do
  data=$work/start-$i
  begun=$(now)
  launch "$data"
  ready "$data"
  since "$begun" >>"$work/starts"
  echo >>"$work/starts"
  if ((i == starts)); then
    say "idle for 60 s"
    sleep 60
    idle=$(resident "$server")
  fi
  begun=$(now)
  stop_server
  since "$begun" >>"$work/stops"
  echo >>"$work/stops"
  rm -rf "$data"
  say "start $i: $(tail -n 1 "$work/starts") s, stop $(tail -n 1 "$work/stops") s"
done

cat <<END
## Server

| | |
|---|---|
END
row "start on an empty disk to \`/readyz\`" "median $(median <"$work/starts") s of $(sort -n "$work/starts" | tr '\n' ' ')"
row "SIGTERM to exit" "median $(median <"$work/stops") s of $(sort -n "$work/stops" | tr '\n' ' ')"
row "resident after 60 idle seconds" "$(mib "$idle")"

data=$work/load-data
launch "$data"
ready "$data"
export KUBECONFIG=$data/admin.kubeconfig
cat <<END

### $hosts hosts and $clusters clusters

Made through the API. Every host refuses connections on a loopback address of its own (simulated hosts that are down), so every
operation stops at its checks.

END
say "making $hosts hosts and $clusters clusters"
before=$(worked)
"$work/load" --hosts "$hosts" --clusters "$clusters" --kubernetes "$KUBERNETES"
cat <<END

| | |
|---|---|
END
after_load=$(resident "$server")
row "resident right after the load" "$(mib "$after_load")"
say "settling"
settled_in=$(quiet)
loaded=$(resident "$server")
row "resident when settled" "$(mib "$loaded")"
worked_load=$(echo "$(worked) $before" | awk '{printf "%.0f", $1-$2}')
row "settled after" "$settled_in s ($worked_load CPU-seconds in all)"
before=$(worked)
sleep 60
idle_cpu=$(echo "$(worked) $before" | awk '{printf "%.1f", ($1-$2)/60*100}')
after_minute=$(resident "$server")
phases=$("$SLIPWAY" get operations -A -o json | jq -r '[.items[].status.phase // "none"] | group_by(.) | map("\(length) \(.[0])") | join(", ")')
states=$("$SLIPWAY" get clusters -A -o json | jq -r '[.items[].status.state // "none"] | group_by(.) | map("\(length) \(.[0])") | join(", ")')
reasons=$("$SLIPWAY" get hosts -o json | jq -r '[.items[].status.conditions // [] | .[] | select(.type=="Reachable") | .reason] | group_by(.) | map("\(length) \(.[0])") | join(", ")')
begun=$(now)
stop_server
stop_loaded=$(since "$begun")
begun=$(now)
launch "$data"
ready "$data"
restart_loaded=$(since "$begun")
quiet >/dev/null
restarted=$(resident "$server")
[[ -z ${KEEP:-} ]] || cp "$data/server.log" "$KEEP/loaded-server.log"
size=$(du -sm --exclude=server.log "$data" | awk '{print $1}')

row "resident a minute later" "$(mib "$after_minute")"
row "processor when idle" "$idle_cpu % of one"
row "hosts" "$reasons"
row "clusters" "$states"
row "operations" "$phases"
row "SIGTERM to exit" "$stop_loaded s"
row "start with this data to \`/readyz\`" "$restart_loaded s"
row "resident after that start, settled" "$(mib "$restarted")"
row "data directory" "$size MiB"
