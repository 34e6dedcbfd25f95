#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two agents, each in a mount namespace with a libvirtd of its own, and one volume: the second is refused with the holder's name; after a
# fence the first one's guest gets an error, nothing of it lands, and the second has the volume. Usage: two.sh VSTORED AGENT CTL GUEST
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
if [ -n "${VSTORE_TEST_FIRST:-}" ]; then # the second host: the first one's vstored, all else its own
	# shellcheck source=tests/agent/lib.sh
	. "$(dirname "$0")/lib.sh"
	mkdir -p /run/vstore
	start virtlogd virtlogd
	start_libvirtd
	start agent "$AGENT" --run /run/vstore --state /run/vstore/agent --storage "$VSTORE_TEST_FIRST/storage.sock" --uids 80000-80999
	until_true 120 answers /run/vstore/agent.sock
	until_true 120 libvirt_seen
	ctl vm create second --no-start --disk 16M --memory 64M --net none --accel tcg
	rc=0; ctl vm disk attach second --volume shared 2>words || rc=$?
	[ $rc = 5 ] && grep -q 'attached to first' words || fail "the second agent got it, or was not told who has it ($rc): $(cat words)"
	ctl vm disk list second | grep -q shared && fail "the refused disk is in the VM"
	ctl --yes volume fence shared
	volume_now() { qemu-io -r -f raw -c 'read -v 0 8M' "nbd+unix:///shared?socket=$VSTORE_TEST_FIRST/nbd/shared.sock" | grep '^0' | sha256sum; }
	before=$(volume_now)
	ctl vm disk attach second --volume shared
	echo fenced >"$VSTORE_TEST_FIRST/fenced"
	seen() { [ -e "$VSTORE_TEST_FIRST/checked" ]; }
	until_true 300 seen
	[ "$(volume_now)" = "$before" ] || fail "something of the first one landed after the fence"
	ctl vm start second
	is_state second running || fail "the second VM is $(state second)"
	ctl vm stop second
	ctl vm delete second
	exit 0
fi
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
shared=$(mktemp -d /var/tmp/vstore-two.XXXXXX) # not in /run, which is one host's alone
at_exit() { rc=$?; rm -rf "$shared"; set +e; (exit $rc); finish; }
trap at_exit EXIT
chmod 711 "$shared"
"$VSTORED" --init --store store --log-size 64M --any-file-system >/dev/null
start vstored "$VSTORED" --store store --run "$shared" --any-file-system
until_true 120 answers "$shared/storage.sock"
start virtlogd virtlogd
start_libvirtd
ln -s "$shared" /run/vstore
start agent "$AGENT" --run /run/vstore --state /run/agent
until_true 120 answers /run/vstore/agent.sock
until_true 120 libvirt_seen
qemu-img convert -O raw "$guest_image" guest.raw
"$CTL" --host "unix:$shared/storage.sock" volume create shared --size 16M
ctl image import guest.raw small --format raw
ctl vm create first --image small --memory 128M --net none --accel tcg
until_true 240 booted first 1
ctl vm disk attach first --volume shared
until_true 120 tell first 'test -b /dev/vdb'
tell first '(n=0; while true; do n=$((n + 1)); echo $n | dd of=/dev/vdb bs=4096 seek=$((n % 2000)) conv=notrunc,sync,fsync 2>/dev/null || echo lost >>/lost; done) & true'
volume_written() { ctl -o json volume show shared | json 'd["vseq"]'; }
begun() { [ "$(volume_written)" -gt 20 ]; }
until_true 120 begun
VSTORE_TEST_FIRST=$shared VSTORE_TEST_HOST=$guest_image unshare --mount --propagation private -- bash "$here/two.sh" "$VSTORED" "$AGENT" "$CTL" "$GUEST" &
second=$!
fenced() { [ -e "$shared/fenced" ] || ! kill -0 $second; }
until_true 300 fenced
[ -e "$shared/fenced" ] || { wait $second; fail "the second host ended early"; }
at_fence=$(volume_written)
stalled() { is_state first stalled; }
until_true 120 stalled || fail "the first guest is $(state first) after the fence"
ctl vm why first | grep -q lease || fail "why: $(ctl vm why first)"
ctl vm why first | grep -q second || fail "why does not name the holder: $(ctl vm why first)"
rc=0; ctl vm resume first 2>words || rc=$?
sleep 3 # the agent's own resuming would have come by now
[ "$(volume_written)" = "$at_fence" ] || fail "the first one writes on: $at_fence, $(volume_written)"
: >"$shared/checked"
wait $second || fail "the second host says the above"
ctl vm stop first
rc=0; ctl vm start first 2>words || rc=$?
[ $rc = 0 ] || grep -q shared words || fail "the first one's start says: $(cat words)"

# Its own disk goes to somebody else as well: deleting it ends, and leaves alone what is not its any more
stopped() { is_state first stopped; }
ctl vm stop first || until_true 120 stopped
storage() { "$CTL" --host "unix:$shared/storage.sock" --yes "$@"; }
storage volume fence first-disk0
holder() { storage -o csv --no-header -c holder_name volume attachments first-disk0; }
# changed: other figures and another name need no disk, and take none
changed() {
	ctl vm set first cpu="$1"
	ctl vm rename first renamed
	ctl vm rename renamed first
	[ "$(virsh -q dumpxml --inactive first | grep -o '<vcpu[^/]*')" = "<vcpu placement='static'>$1<" ] || fail "its CPUs: $(virsh -q dumpxml --inactive first | grep vcpu)"
	[ "$(holder)" = "$2" ] || fail "a change has taken first-disk0: $(holder)"
}
changed 3 ""
storage api PUT /v1/volumes/first-disk0/attachment '{"holder": "11111111-2222-4333-8444-555555555555", "holder_name": "third"}' >/dev/null
changed 2 third
ctl vm delete first >words 2>&1 || fail "deleting first: $(cat words)"
grep -q 'first-disk0, which third has' words || fail "nobody says whose first-disk0 is: $(cat words)"
[ "$(holder)" = third ] || fail "third has lost first-disk0: $(storage volume attachments first-disk0)"
[ "$(ctl -o name vm list; ctl -o name volume list | grep first)" = first-disk0 ] || fail "left of first: $(ctl vm list; ctl volume list)"
