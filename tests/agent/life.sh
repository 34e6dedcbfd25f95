#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The life of a VM on a real libvirtd and QEMU: from an image, with its seed; write, snapshot, restore, clone, hot disk, grow, rename,
# restarts of everything under it, delete without leftovers. Usage: life.sh VSTORED AGENT CTL GUEST
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
start_host

echo "-- image and create"
qemu-img convert -O qcow2 "$guest_image" guest.qcow2
ctl image import guest.qcow2 small
ctl image verify small
qemu-img convert -O vmdk "$guest_image" guest.vmdk
ctl image import guest.vmdk other
[ "$(ctl -o json image show other | json 'd["size_bytes"]')" = "$(ctl -o json image show small | json 'd["size_bytes"]')" ] || fail "the vmdk's size: $(ctl image show other)"
ctl volume export "$(ctl -o json image show other | json 'd["snapshot"]')" other.img
qemu-img compare -q -f raw -F raw other.img "$guest_image" || fail "what was imported from a vmdk is something else"
ctl image delete other
before=$(inventory)
rc=0; ctl vm create web1 --image none --net none 2>words || rc=$?
[ $rc = 3 ] || fail "an unknown image exits $rc"
rc=0; ctl vm create web1 --image small --disk 1M --net none 2>words || rc=$?
[ $rc = 2 ] || fail "a disk smaller than its image exits $rc: $(cat words)"
rc=0; ctl vm create web1 --image small --net bridge=nosuch0 2>words || rc=$?
grep -q nosuch0 words || fail "the missing bridge is not named: $(cat words)"
rc=0; ctl vm create web1 --image small --memory 4T --net none 2>words || rc=$?
[ $rc != 0 ] || fail "4 T of memory were had"
[ "$(inventory)" = "$before" ] || fail "failed creations left something: $(diff <(echo "$before") <(inventory))"
ctl vm create web1 --image small --disk 1G --memory 128M --net none --accel tcg
until_true 300 console_says web1 "web1 is up"
tell web1 'cat /proc/partitions' | grep -q '1048576 vda' || fail "the disk was not grown"
rc=0; ctl vm create web1 --image small --net none 2>words || rc=$?
[ $rc = 4 ] || fail "a second web1 exits $rc: $(cat words)"
rc=0; ctl volume delete web1-disk0 2>words || rc=$?
[ $rc = 5 ] && grep -q web1 words || fail "the VM's disk could be deleted ($rc): $(cat words)"
rc=0; ctl vm delete web1 2>words || rc=$?
[ $rc = 5 ] || fail "a running VM could be deleted ($rc)"

rc=0; ctl replica remove web1-disk0 host2 2>words || rc=$?
[ $rc = 3 ] || fail "copies of a VM's disk are its owner's to end ($rc): $(cat words)"
rc=0; ctl api DELETE /v1/volumes/web1-disk0/attachment '{"holder": "x"}' >words 2>&1 || rc=$?
[ $rc != 0 ] && grep -q 'belongs to VM web1' words || fail "the VM's disk could be let go of ($rc): $(cat words)"

echo "-- write, snapshot, hot disk"
pattern() { echo "yes $1 | head -c 65536 | dd of=/dev/vda bs=64k seek=$2 oflag=direct conv=notrunc 2>/dev/null; sync"; }
holds() { tell "$1" "dd if=/dev/vda bs=64k skip=$3 count=1 iflag=direct 2>/dev/null | head -c 20" | grep -q "^$2"; }
tell web1 "$(pattern first 8000)"
ctl -o json vm snap create web1 one >answer
[ "$(json 'd["job"]["result"]["consistency"]' <answer)" = crash ] || fail "no agent answers, yet: $(cat answer)"
rc=0; ctl snap delete web1-disk0@one 2>words || rc=$?
[ $rc = 6 ] || fail "a member could be deleted alone ($rc)"
ctl snap create web1-disk0@mine
rc=0; ctl vm snap create web1 mine 2>words || rc=$?
[ $rc = 4 ] && grep -q 'web1-disk0@mine' words || fail "a snapshot that a person has made was not seen ($rc): $(cat words)"
ctl snap delete web1-disk0@mine || fail "a person's own snapshot was taken away"
tell web1 "$(pattern second 8000)"
ctl vm disk attach web1 --size 64M
until_true 120 tell web1 'test -b /dev/vdb'
tell web1 'echo data | dd of=/dev/vdb conv=notrunc 2>/dev/null; sync'
ctl vm disk detach web1 vdb
if tell web1 'test -b /dev/vdb'; then fail "the detached disk is still there"; fi
ctl volume show web1-disk1 >/dev/null || fail "the detached volume is gone"

echo "-- the agent and libvirtd restart; the guest does not notice"
tell web1 'echo 1 >/mark'
stop agent; start_agent
is_state web1 running || fail "web1 is $(state web1) after the agent's restart"
stop libvirtd
if ctl vm disk grow web1 vda 3G 2>words; then fail "a disk grew without libvirt"; fi
[ "$(ctl -o json volume show web1-disk0 | json 'd["size_bytes"]')" = $((1 << 30)) ] || fail "growing failed, yet the volume has grown: $(cat words)"
start_libvirtd; until_true 120 libvirt_seen
until_true 120 is_state web1 running
tell web1 'test -e /mark' || fail "the guest was restarted"

echo "-- shutdown, restore, clone, rename"
ctl vm shutdown web1 --timeout 5m 2>words || fail "it does not end: $(cat words)"
grep -q 'ACPI' words || fail "what it waits for is not told: $(cat words)"
holds_off() { qemu-io -r -f raw -c "read -P $1 524288000 512" "nbd+unix:///web1-disk0?socket=/run/vstore/nbd/web1-disk0.sock" | grep -vq failed; }
ctl vm snap restore web1 one
ctl vm start web1
until_true 120 is_state web1 running
until_true 300 booted web1 2
holds web1 first 8000 || fail "the disk is not what the snapshot was"
ctl vm clone web1 copy --start
until_true 300 console_says copy "copy is up"
holds copy first 8000 || fail "the clone holds something else"
tell copy "$(pattern other 8000)"
holds web1 first 8000 || fail "the clone wrote into its origin"
ctl vm stop copy
ctl vm rename copy copy2
ctl vm disk grow copy2 vda 2G
ctl vm start copy2
until_true 300 booted copy2 2
tell copy2 'cat /proc/partitions' | grep -q '2097152 vda' || fail "the disk did not grow"
ctl vm why copy2 | grep -q runs || fail "why: $(ctl vm why copy2)"

echo "-- all goes, nothing stays"
for vm in web1 copy2; do ctl vm stop "$vm"; ctl vm delete "$vm"; done
ctl volume delete web1-disk1
[ "$(inventory)" = "$before" ] || fail "leftovers: $(diff <(echo "$before") <(inventory))"
ctl audit verify
ctl events --since 0 | grep -q vm.deleted || fail "no event of the deletion"
stop agent
rc=0; "$AGENT" --run /run/vstore --state /run/vstore/agent --group nosuch 2>words || rc=$?
[ $rc = 2 ] && grep -q 'no group nosuch' words || fail "an unknown group was taken ($rc): $(cat words)"
"$AGENT" --run /run/vstore --state /run/vstore/agent --verify-audit
python3 -c "
import sqlite3
d = sqlite3.connect('/run/vstore/agent/catalog.db')
d.execute('UPDATE audit SET uid = 7 WHERE sequence = 3')
d.commit()"
rc=0; "$AGENT" --run /run/vstore --state /run/vstore/agent --verify-audit 2>words || rc=$?
[ $rc = 11 ] && grep -q 'line 3' words || fail "a changed line was not found ($rc): $(cat words)"
