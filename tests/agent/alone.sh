#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# vstore-agent where libvirt is not there, and then vstored neither: it answers, says in one sentence what is missing, and logs an outage
# once. A second agent takes nothing from the first. About 8 s. Usage: alone.sh VSTORED AGENT VSTORECTL
VSTORED=$1 AGENT=$(realpath "$2") VSTORECTL=$(realpath "$3")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$(realpath "$0")")/../integration/lib.sh"
requires curl
agent() { exec "$AGENT" --run run --libvirt "qemu+unix:///system?socket=$work/none" "$@"; }
actl() { "$VSTORECTL" --host "unix:$work/run/agent.sock" "$@" </dev/null; }
make_store --log-size 16M
start_vstored
agent --state state 2>agent.log &
first=$!
at_end+=("kill $first")
soon test -S run/agent.sock

actl -q volume create a --size 1M
[ "$(actl -o name volume list)" = a ] || fail "what is vstored's is not answered"
refused 8 'libvirt does not answer.*start libvirtd' actl network list
rc=0; actl doctor >findings || rc=$?
[ $rc = 1 ] || fail "doctor exits $rc"
grep -qE '^libvirt +wrong .*start libvirtd' findings || fail "doctor: $(cat findings)"

refused 2 'is no number' actl events --since yesterday

# A VM cannot be made; that it is being undone, and what for that waits, is said. The end tells what failed first.
refused 7 'did not end in time' actl --timeout 3s vm create v --no-start
soon sh -c "$VSTORECTL --host unix:run/agent.sock job show a1 -o wide | grep -q 'WAITS .*start libvirtd'" || fail "job show: $(actl job show a1 -o wide)"
actl vm why v | grep -q 'vm.create.*waits: libvirt does not answer.*start libvirtd' || fail "vm why: $(actl vm why v)"
actl -q --timeout 3s job wait a1 2>words || true
if grep -q 'job cancel' words; then fail "it says how to cancel what cannot be: $(cat words)"; fi

for state in state other; do
	rc=0; timeout 60 "$AGENT" --run run --state "$state" 2>words || rc=$?
	case $rc in 0 | 124) fail "a second agent with --state $state runs" ;; esac
	grep -qE '^vstore-agent: .*(--state|--run)\.$' words || fail "a second agent says: $(cat words)"
	actl volume show a >/dev/null || fail "a second agent with --state $state took the first one's socket"
done

sleep 5 # it is tried anew after 1, 2, 3 s
[ "$(grep -c libvirt.unreachable agent.log)" = 1 ] || fail "one outage is told more than once: $(cat agent.log)"
stop_vstored
refused 8 'vstored' actl volume list
