#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Many VMs made and deleted, four at a time: time a VM, and what the agent keeps of them. Also who may do what.
# Usage: many.sh VSTORED AGENT CTL GUEST [COUNT]
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
count=${5:-12}
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
start_host
ctl image import "$guest_image" small --format raw
rss_kib() { awk '/VmRSS/ {print $2}' "/proc/${pids[agent]}/status"; }
files() { find "/proc/${pids[agent]}/fd" -mindepth 1 | wc -l; }
one() { ctl vm create "vm$1" --image small --disk 64M --memory 64M --net none --accel tcg && ctl vm stop "vm$1" && ctl vm delete "vm$1"; }

# Nobody outside of the groups reads or changes anything
for socket in /run/vstore/agent.sock /run/vstore/storage.sock; do
	if setpriv --reuid 65534 --regid 65534 --clear-groups curl -s --unix-socket "$socket" http://x/v1/status >/dev/null; then fail "nobody may use $socket"; fi
done
if setpriv --reuid 65534 --regid 65534 --clear-groups find /run/vstore/agent /run/vstore/nbd -name '*.db' -readable | grep .; then fail "nobody may read the catalog"; fi

one warm >/dev/null 2>&1
before=$(inventory)
start=$SECONDS
for first in $(seq 1 4 "$count"); do
	jobs=()
	for n in $(seq "$first" $((first + 3))); do
		one "$n" >"one.$n" 2>&1 &
		jobs+=($!)
	done
	for job in "${jobs[@]}"; do wait "$job" || fail "a VM failed: $(cat one.*)"; done
	rm one.*
	[ "$first" != 9 ] || { early_kib=$(rss_kib) early_files=$(files); }
done
echo "$count VMs in $((SECONDS - start)) s; agent: $early_kib KiB after 12, $(rss_kib) KiB now; $(files) files"
[ "$(inventory)" = "$before" ] || fail "leftovers: $(diff <(echo "$before") <(inventory))"
[ "$(rss_kib)" -le $((early_kib + 2048)) ] || fail "the agent has grown"
[ "$(files)" -le $((early_files + 2)) ] || fail "the agent keeps files open"

# A QEMU's folder is its own: its group may come in, others may not
ctl vm create a --no-start --image small --net none
folder=$(find /run/vstore/vm -mindepth 1 -maxdepth 1)
if setpriv --reuid 65534 --regid 65534 --clear-groups ls "$folder" 2>/dev/null; then fail "nobody may look into $folder"; fi
ctl vm delete a
