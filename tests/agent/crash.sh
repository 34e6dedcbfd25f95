#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The agent is killed after each persisted step of each operation; its next start finishes or undoes it, and nothing is left over. Then the
# catalog is lost and made again from the store. Usage: crash.sh VSTORED AGENT CTL GUEST
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
VSTORE_TEST_NET=1
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
start_host
ctl image import "$guest_image" small --format raw
# The members of an unfinished operation are undone or done: what is there beside the catalog's own numbers
there() {
	inventory
	ctl -o name snap list | sort
	ctl -o name image list
	ctl -o csv --no-header -c target,volume vm disk list base 2>/dev/null
	ctl -o csv --no-header -c mac vm nic list base 2>/dev/null
	virsh -q domiflist base --inactive 2>/dev/null | awk '{print $5}' | sort
	virsh dumpxml --inactive old 2>/dev/null
	ctl -o name vm snap list base 2>/dev/null
	virsh -q domblklist base --inactive 2>/dev/null | awk '{print $1}' | sort
}

base() { ctl vm create base --no-start --image small --disk 64M --memory 128M --net none --accel tcg; }

for step in 0 1 2 3 4 5 6 7 8; do
	undone vm.create "$step" vm create new --image small --disk 64M --memory 128M --net none --accel tcg
done
for step in 9 10; do
	dies vm.create "$step" vm create new --image small --memory 128M --net none --accel tcg
	is_state new running || fail "create died after step $step: new is $(state new)"
	ctl vm stop new
	ctl vm delete new
done
base
undone vm.delete 0 vm delete base
empty=$(ctl vm stop base >/dev/null 2>&1 || true; ctl vm delete base >/dev/null; there)
for step in 1 2 3 4 5; do
	base
	dies vm.delete "$step" vm delete base
	[ "$(there)" = "$empty" ] || fail "delete died after step $step: $(diff <(echo "$empty") <(there))"
done
base
for step in 0 1 2 3; do undone vm.disk.attach "$step" vm disk attach base --size 1M; done
for step in 4 5; do
	dies vm.disk.attach "$step" vm disk attach base --size 1M
	ctl vm disk list base | grep -q vdb || fail "attach died after step $step: no disk"
	undone vm.disk.detach 0 vm disk detach base vdb
	dies vm.disk.detach $((step - 3)) vm disk detach base vdb
	if ctl vm disk list base | grep -q vdb; then fail "detach died after step $((step - 3)): the disk is there"; fi
	ctl volume delete base-disk1
done
for step in 1 2 3; do
	dies vm.disk.grow "$step" vm disk grow base vda $((64 + step))M
	[ "$(ctl -o csv --no-header -c size_bytes vm disk list base)" = $(((64 + step) << 20)) ] || fail "grow died after step $step: $(ctl vm disk list base)"
done
# What the catalog and libvirt have of its figures
figures() {
	ctl -o json vm show base | json 'd["cpu"], d["memory_bytes"] >> 20, d["order"], d["cdrom"]'
	virsh -q dumpxml --inactive base | grep -oE "<vcpu.*|<memory.*|[^/]*\.iso" || true
}
truncate -s 1M cd.iso
was=$(figures)
for step in 0 1; do
	dies vm.set "$step" vm set base cpu=3 memory=160M order=7
	[ "$(figures)" = "$was" ] || fail "set died after step $step: $(figures)"
	dies vm.set "$step" vm cdrom insert base cd.iso
	[ "$(figures)" = "$was" ] || fail "cdrom insert died after step $step: $(figures)"
done
for step in 2 3; do
	dies vm.set "$step" vm set base cpu=$((step + 1)) memory=$((160 + step))M order=7
	[ "$(figures | tr '\n' ' ' | grep -c "$((step + 1)) $((160 + step)) 7 .*$(((160 + step) << 10)).*>$((step + 1))<")" = 1 ] || fail "set died after step $step: $(figures)"
	dies vm.set "$step" vm cdrom insert base cd.iso
	[ "$(figures | grep -c cd.iso)" = 2 ] || fail "cdrom insert died after step $step: $(figures)"
	dies vm.set "$step" vm cdrom eject base
	[ "$(figures | grep -c cd.iso)" = 0 ] || fail "cdrom eject died after step $step: $(figures)"
done
ip link add br-test type bridge
mac=52:54:00:00:00:01
for step in 0 1 2; do undone vm.nic.attach "$step" vm nic attach base bridge=br-test,mac=$mac; done
for step in 3 4; do
	dies vm.nic.attach "$step" vm nic attach base bridge=br-test,mac=$mac
	virsh -q domiflist base --inactive | grep -q $mac && ctl vm nic list base | grep -q $mac || fail "nic attach died after step $step: no NIC"
	undone vm.nic.detach 0 vm nic detach base $mac
	dies vm.nic.detach $((step - 2)) vm nic detach base $mac
	if ctl vm nic list base | grep -q $mac; then fail "nic detach died after step $((step - 2)): the NIC is there"; fi
done
for step in 0 1 2 3 4 5 6 7 8; do undone vm.create "$step" vm clone base new; done
ctl volume create golden --size 1M
image=(api POST /v1/images '{"name": "golden", "volume": "golden"}')
for step in 0 1 2 3; do undone image.create "$step" "${image[@]}"; done
for step in 4 5; do
	dies image.create "$step" "${image[@]}"
	ctl image list | grep -q golden || fail "image create died after step $step: no image"
	undone image.delete 0 image delete golden
	dies image.delete $((step - 3)) image delete golden
	if ctl -o name image list | grep golden || ctl -o name volume list | grep golden; then fail "image delete died after step $((step - 3)): it is there"; fi
	ctl volume create golden --size 1M
done
ctl volume delete golden
for step in 0 1; do undone vm.shutdown_all "$step" vm shutdown --all; done
qemu-img create -q -f qcow2 old.qcow2 8M
echo "<domain type='qemu'><name>old</name><memory unit='MiB'>128</memory><os><type arch='x86_64' machine='q35'>hvm</type></os><devices>
<disk type='file'><driver name='qemu' type='qcow2'/><source file='$work/old.qcow2'/><target dev='vda' bus='virtio'/></disk></devices></domain>" >old.xml
virsh -q define old.xml
for step in 0 1 2 3 4 5; do undone vm.adopt "$step" vm adopt old; done

# Somebody makes what an operation is about to make: it fails, and theirs stays. A proxy holds the agent's own making back meanwhile
start proxy python3 "$here/slow.py" /run/vstore/slow.sock /run/vstore/storage.sock 'POST /v1/' "$work/go"
until_true 120 test -S /run/vstore/slow.sock
stop agent; start_agent --storage /run/vstore/slow.sock
steps() { grep -c "step=$1 done=0" agent.log || true; }
step_done() { [ "$(steps "$1")" -gt "$2" ]; }
# raced STEP VERB NAMES COMMAND...: NAMES are made once STEP is done
raced() {
	local step=$1 verb=$2 theirs=$3 rc=0 seen before name
	shift 3
	rm -f go
	before=$(there)
	seen=$(steps "$step")
	ctl "$@" >words 2>&1 &
	local pid=$!
	until_true 120 step_done "$step" "$seen"
	for name in $theirs; do
		# shellcheck disable=SC2086 # a verb and its flags
		"$CTL" --host unix:/run/vstore/storage.sock -q ${verb/NAME/$name} || fail "$name cannot be made"
	done
	: >go
	wait $pid || rc=$?
	[ $rc = 4 ] || fail "$*: $theirs was made meanwhile, and it exits $rc: $(cat words)"
	for name in $theirs; do ctl "${verb%% *}" delete "$name" || fail "$*: undoing took $name away"; done
	[ "$(there)" = "$before" ] || fail "$*: left over: $(diff <(echo "$before") <(there))"
}
bare=(vm create new --no-start --disk 1M --disk 1M --memory 128M --net none --accel tcg)
volume='volume create NAME --size 1M' snap='snap create NAME'
raced reserve "$volume" new-disk1 "${bare[@]}"
raced reserve "$volume" "new-disk0 new-disk1" "${bare[@]}"
raced reserve "$volume" "new-meta new-seed" "${bare[@]}"
raced reserve "$volume" new-seed vm create new --no-start --image small --memory 128M --net none --accel tcg
raced reserve "$volume" old-disk0 vm adopt old
raced check "$volume" base-disk1 vm disk attach base --size 1M
raced check "$snap" base-disk0@one vm snap create base one
ctl volume create golden --size 1M
raced check "$snap" golden@image api POST /v1/images '{"name": "golden", "volume": "golden"}'
ctl volume delete golden
stop proxy || true
stop agent; start_agent

dies vm.adopt 6 vm adopt old
is_state old stopped || fail "adopt died after step 6: old is $(state old)"
ctl vm delete old

for step in 0 1 2; do undone vm.snap.create "$step" vm snap create base one; done
for step in 4 3; do
	[ $step = 4 ] || ctl vm snap delete base one
	dies vm.snap.create $step vm snap create base one
	ctl vm snap list base | grep -q one || fail "snap create died after step $step: no snapshot"
done
qemu-io -f raw -c 'write -P 9 40M 64k' "nbd+unix:///base-disk0?socket=$(ctl -o csv --no-header -c socket volume attachments base-disk0)" >/dev/null
for step in 1 2; do
	dies vm.snap.restore "$step" vm snap restore base one
	qemu-io -r -f raw -c 'read -P 0 40M 64k' "nbd+unix:///base-disk0?socket=/run/vstore/nbd/base-disk0.sock" | grep -q 'failed' && fail "restore died after step $step: not restored"
done
ctl volume create other-disk0 --size 1M
rc=0; ctl vm rename base other >words 2>&1 || rc=$?
[ $rc = 4 ] && settled || fail "a name that a volume has: $rc, $(cat words), $(ctl job list)"
ctl vm disk list base | grep -q base-disk0 || fail "a refused renaming has changed a disk"
ctl volume delete other-disk0
# A domain of somebody else has it: volumes, catalog and libvirt are as they were
sed 's/>old</>other</' old.xml >other.xml
virsh -q define other.xml
was=$(there)
rc=0; ctl vm rename base other >words 2>&1 || rc=$?
[ $rc != 0 ] && settled && grep -q other words || fail "a name that a domain has: $rc, $(cat words), $(ctl job list)"
[ "$(there)" = "$was" ] || fail "a renaming that failed left: $(diff <(echo "$was") <(there))"
[ "$(ctl -o json vm show base | json 'd["name"], d["disks"][0]["volume"], d["meta"]')" = "base base-disk0 base-meta" ] || fail "the definition: $(ctl -o json vm show base)"
virsh -q undefine other
for step in 0 1; do undone vm.rename "$step" vm rename base other; done
dies vm.rename 2 vm rename base other
ctl vm show other >/dev/null || fail "rename died after step 2: there is no other"
ctl vm rename other base
undone vm.snap.delete 0 vm snap delete base one

# The catalog is lost
ctl vm disk attach base --size 2M
before=$(there)
stop agent
rm /run/vstore/agent/catalog.db*
"$AGENT" --run /run/vstore --state /run/vstore/agent --recover
start_agent
[ "$(there)" = "$before" ] || fail "recovered: $(diff <(echo "$before") <(there))"
ctl image list | grep -q small || fail "the image was not recovered"
ctl vm start base
is_state base running || fail "the recovered VM does not run"
ctl vm stop base
dies vm.snap.delete 2 vm snap delete base one
ctl vm delete base
