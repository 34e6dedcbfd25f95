#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Many VMs made and deleted, four at a time: time a VM, and what the agent keeps of them. Also who may do what.
# Usage: many.sh VSTORED AGENT CTL GUEST [COUNT] (40 or more, to see the agent grow)
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
count=${5:-12}
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
start_host
ctl image import "$guest_image" small --format raw
kept_kib() { awk '/RssAnon/ {print $2}' "/proc/${pids[agent]}/status"; } # its own, without the pages of libraries, which come and go
files() { find "/proc/${pids[agent]}/fd" -mindepth 1 | wc -l; }
one() { ctl vm create "vm$1" --image small --disk 64M --memory 64M --net none --accel tcg && ctl vm stop "vm$1" && ctl vm delete "vm$1"; }

# Nobody outside of the groups reads or changes anything
for socket in /run/vstore/agent.sock /run/vstore/storage.sock; do
	if setpriv --reuid 65534 --regid 65534 --clear-groups curl -s --unix-socket "$socket" http://x/v1/status >/dev/null; then fail "nobody may use $socket"; fi
done
if setpriv --reuid 65534 --regid 65534 --clear-groups find /run/vstore/agent /run/vstore/nbd -name '*.db' -readable | grep .; then fail "nobody may read the catalog"; fi

# An agent that is not root keeps no VM from another, and says so
mkdir /run/other
cp "$AGENT" /run/other/program
chown -R 65534 /run/other
nobody() { setpriv --reuid 65534 --regid 65534 --clear-groups "$@"; }
start other setpriv --reuid 65534 --regid 65534 --clear-groups /run/other/program --run /run/other
other_answers() { nobody curl -sf --max-time 5 --unix-socket /run/other/agent.sock http://x/v1/audit; }
until_true 120 other_answers
users() { json '[f["state"] for f in d["findings"] if f["name"] == "users"][0]'; }
[ "$(nobody curl -s --unix-socket /run/other/agent.sock http://x/v1/doctor | users)" = wrong ] || fail "the doctor finds nothing wrong with one user for all VMs"
[ "$(ctl api GET /v1/doctor | users)" = ok ] || fail "the doctor: $(ctl doctor)"
ctl doctor | grep apparmor | grep -q security_driver || fail "the doctor does not see that libvirt leaves AppArmor out: $(ctl doctor)"
# Where systemd is, who ends the guests at a shutdown is looked at
at_shutdown() { ctl api GET /v1/doctor | json 'next((f["state"] + ": " + f["message"] for f in d["findings"] if f["name"] == "guests at shutdown"), "not looked at")'; }
[ "$(at_shutdown)" = 'not looked at' ] || fail "the doctor, without systemd: $(at_shutdown)"
mkdir -p /run/systemd/system wants /etc/systemd/system/multi-user.target.wants
mount --bind wants /etc/systemd/system/multi-user.target.wants
at_shutdown | grep -q '^wrong: .*enable --now vstore-guests' || fail "the doctor: $(at_shutdown)"
touch wants/vstore-guests.service wants/libvirt-guests.service
at_shutdown | grep -q '^wrong: .*disable libvirt-guests' || fail "the doctor: $(at_shutdown)"
rm wants/libvirt-guests.service
at_shutdown | grep -q '^ok' || fail "the doctor: $(at_shutdown)"
umount /etc/systemd/system/multi-user.target.wants
rm -r /run/systemd
stop other

one warm >/dev/null 2>&1
before=$(inventory)
start=$SECONDS kept=()
for first in $(seq 1 4 "$count"); do
	jobs=()
	for n in $(seq "$first" $((first + 3))); do
		one "$n" >"one.$n" 2>&1 &
		jobs+=($!)
	done
	for job in "${jobs[@]}"; do wait "$job" || fail "a VM failed: $(cat one.*)"; done
	rm one.*
	[ "$first" != 9 ] || early_files=$(files)
	kept+=("$(kept_kib)")
done
# It swings by a megabyte with what runs beside what, so the least of the last five is held against the most of the first five
early_kib=$(printf '%s\n' "${kept[@]:0:5}" | sort -n | tail -n 1) late_kib=$(printf '%s\n' "${kept[@]: -5}" | sort -n | head -n 1)
echo "$count VMs in $((SECONDS - start)) s; agent, KiB: ${kept[*]}; $(files) files"
[ "$(inventory)" = "$before" ] || fail "leftovers: $(diff <(echo "$before") <(inventory))"
[ "$late_kib" -le $((early_kib + 1024)) ] || fail "the agent has grown from $early_kib to $late_kib KiB"
few_files() { [ "$(files)" -le $((early_files + 2)) ]; }
until_true 120 few_files || fail "the agent keeps files open"

# A VM's folder is its QEMU's alone: nobody else may look into it
ctl vm create a --no-start --image small --net none
folder=$(find /run/vstore/vm -mindepth 1 -maxdepth 1)
# As the QEMU of one VM, with exactly its user and groups, the socket of another cannot be opened
ctl vm create b --image small --memory 64M --net none --accel tcg
qemu=$(cat /run/libvirt/qemu/b.pid) || fail "b has no QEMU"
ids() { awk -v key="$1:" '$1 == key {print $2}' "/proc/$qemu/status"; }
[ "$(ids Uid)" -ge 70000 ] || fail "QEMU runs as user $(ids Uid)"
groups=$(awk '/^Groups:/ {$1 = ""; gsub(/^ +| +$/, ""); gsub(/ /, ","); print}' "/proc/$qemu/status")
as=(--clear-groups)
[ -z "$groups" ] || as=(--groups "$groups")
opens() {
	local rc=0
	setpriv --reuid "$(ids Uid)" --regid "$(ids Gid)" "${as[@]}" curl -s --max-time 5 --unix-socket "$1" http://x/ >/dev/null 2>&1 || rc=$?
	[ $rc != 7 ]
}
own=$(ctl -o csv --no-header -c socket volume attachments b-disk0) other=$(ctl -o csv --no-header -c socket volume attachments a-disk0)
opens "$own" || fail "b's QEMU cannot open its own socket $own"
if opens "$other"; then fail "b's QEMU opens $other, which is a's"; fi
if opens /run/vstore/nbd/a-disk0.sock; then fail "b's QEMU opens a's disk by the administrators' socket"; fi
[ "$(ctl -o csv --no-header -c uid volume attachments a-disk0)" != "$(ids Uid)" ] || fail "two VMs share a user"
ctl vm stop b
ctl vm delete b
if setpriv --reuid 65534 --regid 65534 --clear-groups ls "$folder" 2>/dev/null; then fail "nobody may look into $folder"; fi
ctl vm delete a
