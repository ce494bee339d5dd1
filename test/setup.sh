#!/usr/bin/env bash
# Installs the Debian packages that building bundles and running sandbox hosts need. Running it twice is harmless.
set -euo pipefail
packages=(systemd-container mmdebstrap libseccomp-dev pkg-config gcc libc6-dev iproute2 iptables nftables e2fsprogs
  openssh-server openssh-client sudo kmod procps jq)
missing=()
for p in "${packages[@]}"; do
  dpkg-query -W -f '${Status}' "$p" 2>/dev/null | grep -q 'ok installed' || missing+=("$p")
done
((${#missing[@]})) || exit 0
echo "installing: ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# The tests start an sshd of their own; the machine's must not start because of us.
policy=/usr/sbin/policy-rc.d
made=
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  made=1
  trap 'rm -f "$policy"' EXIT
fi
apt-get update -qq
apt-get install -y -qq --no-install-recommends "${missing[@]}"
