#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real Debian guest on a real libvirtd and QEMU: cloud-init takes its name and key from the seed; its file systems are frozen for a
# snapshot; its disk grows while it runs; a disk comes and goes; everything under it is killed while it writes; the snapshot is restored
# and cloned; all goes without leftovers. Usage: debian.sh VSTORED AGENT CTL GUEST DEBIAN
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
if [ -z "${VSTORE_TEST_HOST:-}" ]; then
	command -v mmdebstrap >/dev/null || { echo "mmdebstrap is not installed"; exit 77; }
	VSTORE_DEBIAN=$("$5" "${VSTORE_IMAGES:-/var/tmp/vstore-images}") || { echo "FAILED: no Debian image could be made: $VSTORE_DEBIAN"; exit 1; }
	export VSTORE_DEBIAN
fi
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
in_guest() { python3 "$here/exec.py" "$1" "$2"; }
since() { echo "   [$SECONDS s]"; } # what a step costs, for people
is_thawed() { virsh qemu-agent-command web1 '{"execute":"guest-fsfreeze-status"}' | grep -q thawed; }
start_host
ctl image import "$VSTORE_DEBIAN" debian --format raw
before=$(inventory)

echo "-- it boots from a clone of the image, and is who its seed says"
# A key that nobody has: 32 bytes of it
python3 -c "
import base64, struct
part = lambda b: struct.pack('>I', len(b)) + b
print('ssh-ed25519', base64.b64encode(part(b'ssh-ed25519') + part(bytes(range(32)))).decode(), 'test@vstore')" >key.pub
printf '#!/bin/sh\necho "it was $(id -un)" >/root/said\n' >user.sh
ctl vm create web1 --image debian --disk 2G --memory 512M --cpu 2 --net none --accel tcg --ssh-key key.pub --user-data user.sh
ctl --timeout 10m vm wait web1 --for agent || fail "no guest agent: $(ctl vm log web1 | tail -n 20)"
since
first_boot_done() { in_guest "$1" 'test -e /var/lib/cloud/instance/boot-finished'; }
until_true 300 first_boot_done web1 || fail "cloud-init does not end: $(ctl vm log web1 | tail -n 20)"
since
[ "$(in_guest web1 hostname)" = web1 ] || fail "its name is $(in_guest web1 hostname)"
in_guest web1 'cat /home/debian/.ssh/authorized_keys' | grep -qF "$(cut -d ' ' -f 2 key.pub)" || fail "the key is not there"
[ "$(in_guest web1 'cat /root/said')" = "it was root" ] || fail "its user-data did not run: $(in_guest web1 'cat /root/said')"
until_true 300 console_says web1 'web1 login:' || fail "its console: $(ctl vm log web1 | tail -n 5)"
in_guest web1 'systemctl is-active ssh' | grep -qx active || fail "no ssh server"
root_mib() { in_guest "$1" "df --output=size -m / | tail -n 1"; }
[ "$(root_mib web1)" -gt 1700 ] || fail "the root file system did not grow at boot: $(root_mib web1) MiB"

echo "-- written, frozen, snapshotted, thawed"
in_guest web1 'echo kept >/root/before; sync'
ctl -o json vm snap create web1 one >answer
[ "$(json 'd["job"]["result"]["consistency"]' <answer)" = app ] || fail "the snapshot: $(cat answer)"
echo "   frozen for $(json 'd["job"]["result"]["frozen_ms"]' <answer) ms"
is_thawed || fail "it was not thawed"
in_guest web1 'echo lost >/root/after; sync'
since

# The store takes its time: a proxy before it holds snapshots back for 7 s. Meanwhile the guest is thawed, and the snapshot says so.
start proxy python3 "$here/slow.py" /run/vstore/slow.sock /run/vstore/storage.sock 'POST /v1/snapshots ' 7
until_true 120 test -S /run/vstore/slow.sock
stop agent; start_agent --storage /run/vstore/slow.sock
ctl -o json vm snap create web1 slow >answer
[ "$(json 'd["job"]["result"]["consistency"]' <answer)" = freeze-timeout ] || fail "the slow snapshot: $(cat answer)"
stop proxy || true
# The agent dies while the guest is frozen: its next start thaws it
stop agent; start_agent --crash-after vm.snap.create:1
ctl vm snap create web1 dead >/dev/null 2>&1 && fail "the agent lived"
unset 'pids[agent]'
virsh -q domfsfreeze web1 >/dev/null
start agent "$AGENT" --run /run/vstore --state /run/vstore/agent --storage /run/vstore/away.sock # while the store does not answer
until_true 120 is_thawed || fail "it stays frozen"
stop agent; start_agent
until_true 120 settled
[ "$(ctl -o name vm snap list web1 | tr '\n' ' ')" = "one slow " ] || fail "snapshots: $(ctl vm snap list web1)"
ctl vm snap delete web1 slow
since

echo "-- grown while it runs"
boot=$(in_guest web1 'cat /proc/sys/kernel/random/boot_id')
ctl -o json vm disk grow web1 vda 3G >answer
[ "$(json 'd["job"]["result"]["at_next_start"]' <answer)" = False ] || fail "the guest does not see it: $(cat answer) $(tail -n 5 agent.log)"
grown() { [ "$(in_guest web1 'cat /sys/block/vda/size')" = 6291456 ]; } # its kernel looks when it has time to
until_true 120 grown || fail "the guest sees $(in_guest web1 'cat /sys/block/vda/size') sectors"
in_guest web1 'growpart /dev/vda 2 && resize2fs /dev/vda2' >words 2>&1 || fail "its file system did not grow: $(cat words)"
[ "$(root_mib web1)" -gt 2700 ] || fail "the root file system has $(root_mib web1) MiB"

echo "-- a second disk comes and goes"
ctl vm disk attach web1 --size 64M
until_true 120 in_guest web1 'test -b /dev/vdb'
in_guest web1 'mkfs.ext4 -q /dev/vdb && mount /dev/vdb /mnt && echo data >/mnt/file && umount /mnt' || fail "the second disk cannot be used"
ctl vm disk detach web1 vdb
if in_guest web1 'test -b /dev/vdb'; then fail "the detached disk is still there"; fi
since

echo "-- vstored, the agent and libvirtd are killed while it writes"
writer='n=0; while [ ! -e /run/stop ]; do echo $n >>/root/numbers && sync /root/numbers || echo error >>/root/errors; n=$((n + 1)); done; echo $n >/run/count'
in_guest web1 "($writer) >/dev/null 2>&1 & true"
lines() { in_guest web1 'wc -l </root/numbers'; }
more_than() { [ "$(lines)" -gt "$1" ]; }
go_on() { local now; until_true 120 lines; now=$(lines); until_true 120 more_than $((now + 3)) || fail "the guest does not go on after $1: $(ctl vm why web1)"; }
go_on nothing
murder vstored; start_vstored; until_true 120 is_state web1 running; go_on "vstored's end"
murder agent; start_agent; go_on "the agent's end"
murder libvirtd; start_libvirtd; until_true 120 libvirt_seen; until_true 120 is_state web1 running; go_on "libvirtd's end"
in_guest web1 ': >/run/stop'
until_true 120 in_guest web1 'test -e /run/count'
[ "$(in_guest web1 'cat /run/count')" = "$(lines)" ] || fail "written $(in_guest web1 'cat /run/count'), there $(lines)"
in_guest web1 'test ! -e /root/errors' || fail "a write failed"
if in_guest web1 'dmesg' | grep -iE 'I/O error|EXT4-fs error'; then fail "the guest saw errors"; fi
[ "$(in_guest web1 'cat /proc/sys/kernel/random/boot_id')" = "$boot" ] || fail "it was restarted"
since

echo "-- shut down by its power button, restored, cloned"
ctl --timeout 5m vm shutdown web1 2>/dev/null
since
ctl vm snap restore web1 one
ctl vm clone web1 copy --start
ctl --timeout 10m vm wait copy --for agent || fail "the clone does not boot: $(ctl vm log copy | tail -n 20)"
[ "$(in_guest copy 'cat /root/before')" = kept ] || fail "what was there before the snapshot is lost"
in_guest copy 'test ! -e /root/after' || fail "what came after the snapshot is there"
until_true 300 first_boot_done copy
[ "$(in_guest copy hostname)" = copy ] || fail "the clone is called $(in_guest copy hostname)"
since

echo "-- all goes, nothing stays"
ctl vm stop copy
for vm in web1 copy; do ctl vm delete $vm; done
ctl volume delete web1-disk1
[ "$(inventory)" = "$before" ] || fail "leftovers: $(diff <(echo "$before") <(inventory))"
since
