#!/bin/bash
# Prints where promtool and prometheus are, as a folder; fetches Debian's package of them where they are not.
#
# The package is unpacked, not installed: installed, it would start a service. What is on the PATH is taken
# first. usage: scripts/promtool.sh FOLDER (to unpack into)
set -euo pipefail

(($# == 1)) || { echo "usage: scripts/promtool.sh FOLDER" >&2 && exit 2; }
folder=$1
if installed=$(command -v promtool) && command -v prometheus >/dev/null; then
  dirname "$installed"
  exit
fi
mkdir -p "$folder"
folder=$(cd "$folder" && pwd)
# One at a time: tests run beside each other.
exec 9>"$folder/lock"
flock 9
bin=$folder/prometheus/usr/bin
if [[ ! -x $bin/promtool || ! -x $bin/prometheus ]]; then
  new=$(mktemp -d "$folder/new.XXXXXX")
  trap 'rm -rf "$new"' EXIT
  fetch() { (cd "$new" && apt-get -qq download prometheus >&2); }
  update() { ((EUID == 0)) && apt-get -qq update >&2; }
  fetch || { update && fetch; } || {
    printf '%s\n' "promtool is missing, and Debian's package of it could not be fetched. Either of these helps:" \
      "    sudo apt-get update" "    sudo apt-get install prometheus    (starts a service)" >&2
    exit 1
  }
  dpkg-deb -x "$new"/prometheus_*.deb "$new/prometheus"
  rm -rf "$folder/prometheus"
  mv "$new/prometheus" "$folder/prometheus"
fi
echo "$bin"
