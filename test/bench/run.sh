#!/usr/bin/env bash
# Runs every bench and prints one report in Markdown. It measures and asserts nothing. `make bench` calls it.
# Needs SLIPWAY, STORE and KUBERNETES; PAIRS, STARTS, HOSTS and CLUSTERS as the single benches say. Everything it starts, it ends.
set -euo pipefail
: "${SLIPWAY:?}" "${STORE:?}" "${KUBERNETES:?}"
here=$(cd "$(dirname "$0")" && pwd)
root=$here/../..
cd "$root"
export CGO_ENABLED=0 GOFLAGS=${GOFLAGS:--trimpath -buildvcs=false}

cat <<END
# Bench

- date: $(date -u +%FT%TZ)
- machine: $(nproc) processors ($(awk -F': ' '/model name/{print $2; exit}' /proc/cpuinfo)), $(awk '/MemTotal/{printf "%.0f", $2/1048576}' /proc/meminfo) GiB, kernel $(uname -r), cgroup $(stat -f -c %T /sys/fs/cgroup | grep -q cgroup2fs && echo v2 || echo v1)
- load before the start: $(cut -d' ' -f1-3 /proc/loadavg)
- $("$SLIPWAY" version 2>/dev/null | head -n 1); Go $(go env GOVERSION | sed 's/^go//'); cluster Kubernetes $KUBERNETES

END
"$here/create.sh"
echo
CONTROL_PLANES=3 "$here/create.sh"
echo
"$here/server.sh"
echo
cat <<'END'
## Engine on 500 simulated hosts

```
END
go test -run '^$' -bench . ./internal/operation/ | grep -v '^{'
echo '```'
