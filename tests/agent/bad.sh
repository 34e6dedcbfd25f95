#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Bad days of a host: two creates of one name at once; libvirtd hangs, and goes on or is killed; the copy that a guest's flushes wait for is
# away. Usage: bad.sh VSTORED AGENT CTL GUEST
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
VSTORE_TEST_NET=1
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
at_exit() { rc=$?; [ -z "${pids[libvirtd]:-}" ] || kill -CONT "${pids[libvirtd]}" 2>/dev/null; set +e; (exit $rc); finish; }
trap at_exit EXIT # a stopped one could not be ended
start_host
ctl image import "$guest_image" small --format raw
make() { ctl vm create "$@" --image small --disk 64M --memory 128M --net none --accel tcg; }

echo "-- two creates of one name at once: one has it, the other is told so, nothing is left over"
before=$(inventory)
for round in 1 2 3; do
	make twin --no-start >words.1 2>&1 &
	first=$!
	one=0 two=0
	make twin --no-start >words.2 2>&1 || two=$?
	wait $first || one=$?
	case "$one $two" in "0 4" | "0 5" | "4 0" | "5 0") ;; *) fail "round $round: they exit $one and $two: $(cat words.1 words.2)" ;; esac
	grep -qE 'twin' "words.$((one ? 1 : 2))" || fail "the refused one is not told why: $(cat words.1 words.2)"
	ctl vm delete twin
	[ "$(inventory)" = "$before" ] || fail "left over: $(diff <(echo "$before") <(inventory))"
done

echo "-- libvirtd hangs: who needs it is told so, all others are answered, the guest does not notice"
make h1
make h2 --no-start
until_true 240 booted h1 1
terminal=$(ctl api GET /v1/vms/h1/console | json 'd["terminal"]')
kill -STOP "${pids[libvirtd]}"
# More than there may be under way, all of which wait for libvirt
waiting=()
for _ in $(seq 80); do
	curl -s --unix-socket /run/vstore/agent.sock http://x/v1/networks >>networks 2>&1 &
	waiting+=($!)
done
ctl vm set h2 cpu=2 >set.words 2>&1 &
setting=$!
refusals() { grep -q 'under way' networks; }
until_true 120 refusals || fail "calls to libvirt have no bound"
ctl volume create beside --size 1M || fail "a call for vstored is not answered"
ctl volume list >/dev/null
ctl job list >/dev/null
left=0
for p in "${waiting[@]}"; do kill -0 "$p" 2>/dev/null && left=$((left + 1)); done
[ $left -gt 0 ] || fail "nothing waited for libvirt while vstored was asked: this shows nothing"
python3 "$here/tell.py" "$terminal" 'echo on >/dev/vda; sync' || fail "the guest has noticed"
wait "${waiting[@]}" || true
grep -q 'libvirt' networks || fail "the calls were not told that it is libvirt: $(cat networks)"
[ "$(state h1)" = unknown ] || fail "h1 is said to be $(state h1)"
[ "$(ctl -o json vm why h1 | json 'd["cause"]')" = libvirt ] || fail "why: $(ctl vm why h1)"
rc=0; wait $setting || rc=$?
[ $rc != 0 ] && grep -qE 'libvirt .*([0-9]+ s|under way|does not answer)' set.words || fail "the change exits $rc: $(cat set.words)"

echo "-- it goes on: so does the agent"
kill -CONT "${pids[libvirtd]}"
until_true 120 is_state h1 running
until_true 120 settled || fail "not settled: $(ctl job list)"
same() { [ "$(ctl -o json vm show h2 | json 'd["cpu"]')" = "$(virsh -q dumpxml --inactive h2 | grep -oP '<vcpu[^>]*>\K[0-9]+')" ]; }
same || fail "the catalog and libvirt say different CPUs: $(ctl -o json vm show h2) $(virsh dumpxml --inactive h2 | grep vcpu)"
ctl vm set h2 cpu=3
same || fail "what is set afterwards is not what libvirt has"
ctl vm start h2
until_true 120 is_state h2 running
ctl vm stop h2

echo "-- killed in the middle of a call"
kill -STOP "${pids[libvirtd]}"
ctl vm start h2 >start.words 2>&1 &
starting=$!
sleep 0.5 # so that it is most likely under way; either way it ends with an answer
murder libvirtd
rc=0; wait $starting || rc=$?
[ $rc != 0 ] && grep -q libvirt start.words || fail "the start exits $rc: $(cat start.words)"
start_libvirtd
until_true 120 is_state h1 running
ctl vm start h2
until_true 120 is_state h2 running
echo "-- the copy that flushes wait for is away"
"$CTL" pki init ca --cluster site 2>/dev/null
for side in a b; do "$CTL" pki issue ca $side tls-$side 2>/dev/null; done
"$VSTORED" --init --store copy --log-size 32M --any-file-system >/dev/null
serve_copy() {
	start other "$VSTORED" --store copy --run "$work/copy-run" --any-file-system --tls tls-b --listen 127.0.0.2:7410
	until_true 120 answers "$work/copy-run/storage.sock"
}
stop vstored || true
start vstored "$VSTORED" --store store --run /run/vstore --any-file-system --tls tls-a --listen 127.0.0.1:7410
until_true 120 answers /run/vstore/storage.sock
serve_copy
until_true 120 is_state h1 running
ctl peer add b 127.0.0.2:7410
ctl replica add h1-disk0 b --mode sync
in_step() { [ "$(ctl -o json replica status | json 'd["replicas"][0]["state"]')" = "in step" ]; }
until_true 120 in_step || fail "no copy gets in step: $(ctl -o json replica status)"
cause() { ctl -o json vm why h1 | json 'd["cause"]'; }
is_cause() { [ "$(cause)" = "$1" ]; }
until_true 120 is_cause none || fail "why, with a copy in step: $(ctl vm why h1)"
murder other
in_guest() { python3 "$here/tell.py" "$terminal" "$1"; }
in_guest '(echo two | dd of=/dev/vda conv=notrunc,fsync 2>/dev/null && echo done >/synced) & true'
until_true 120 is_cause replica || fail "why: $(ctl vm why h1)"
# A guest that met vstored's restart pauses for a moment, and is resumed, before its flush waits for the copy alone.
named() { ctl vm why h1 | grep -q 'h1-disk0 .* on b'; }
until_true 120 named || fail "neither the disk nor the host is named: $(ctl vm why h1)"
if in_guest 'test -e /synced'; then fail "the flush did not wait: this shows nothing"; fi
serve_copy
until_true 120 in_step
until_true 120 is_cause none || fail "why, in step again: $(ctl vm why h1)"
until_true 120 in_guest 'test -e /synced' || fail "the flush that had waited does not end"
ctl replica remove h1-disk0 b
for vm in h1 h2; do ctl vm stop $vm; ctl vm delete $vm; done
ctl volume delete beside
[ "$(inventory)" = "$before" ] || fail "left over: $(diff <(echo "$before") <(inventory))"
