#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Hours and limits of a copy that follows: outside of its hours nothing is sent, and that is said; a send that the hours end for goes on
# later with what is left; both change while it is on its way, and nothing else of its rules does. About 15 s.
# Usage: window.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

state() { [ "$(field state)" = "$1" ]; }
sent() { host a -o json replica transfers | python3 -c "import json,sys; print(sum(t['sent_bytes'] for t in json.load(sys.stdin)['transfers']))"; }
# Hours that are not now, whenever this runs.
closed=$(date -d '+3 hours' +%H:00)-$(date -d '+5 hours' +%H:00)

two_hosts
host a -q volume create v --size 64M
host a -q peer add b 10.77.0.2:7410
head -c 12M /dev/urandom >data
qemu-img convert -n -f raw -O raw data "$(host_uri a v)"

refused 3 "no replica" host a replica set v --limit 1M
host a -q replica add v b --max-lag 2s --window "$closed"
refused 2 'no hours' host a replica set v --to b --window 22-06
refused 2 'no hours' host a replica set v --to b --window 22:00-22:00
refused 2 'Say what' host a replica set v --to b
refused 3 "no replica on 'c'" host a replica set v --to c --limit 1M
refused 2 'in step' host a replica add v b --mode sync --window "$closed"

# Its hours are not now: it waits, says so, and is not late; nothing goes over, and no cut is kept for it.
soon state waits || fail "it is not told that it waits: $(host a -o json replica status)"
[ "$(field window)" = "$closed" ] || fail "its hours are $(field window), not $closed"
field waits | grep -q "hours, $closed" || fail "why it waits: $(field waits)"
sleep 3 # longer than --max-lag
state waits || fail "outside of its hours it is $(field state)"
[ "$(sent)" = 0 ] || fail "outside of its hours $(sent) bytes were sent"
host a status >screen
! grep -q 'replica of v' screen || fail "that it waits is told as a problem: $(cat screen)"

# They begin; slowly. The limit, and then the hours, change on the way; the send ends, and is no error.
host a -q replica set v --to b --window always --limit 1M
soon sends v@cut- || fail "its hours began, and nothing is sent: $(host a -o json replica status)"
[ "$(field max_lag_seconds)" = 2 ] || fail "another rule changed: $(host a -o json replica status)"
host a -q replica set v --window "$closed"
soon state waits || fail "its hours ended, and it is $(field state)"
quiet() { [ "$(sent)" = 0 ]; }
soon quiet || fail "its hours ended, and it is sent to"
[ -z "$(field error)" ] || fail "that its hours ended is told as an error: $(field error)"
before=$(field sent_bytes)
((before > 0 && before < 12000000)) || fail "$before bytes were sent before its hours ended"
gone() { ! host a -o name snap list | grep -q '@cut-'; }
soon gone || fail "a cut is kept while it waits"

# They begin again: what arrived is not sent again; a new limit holds for what is on its way.
host a -q replica set v --to b --window always
soon sends v@cut- || fail "it does not go on: $(host a -o json replica status)"
host a -q replica set v --to b --limit 0
soon state same || fail "it does not get there: $(host a -o json replica status)"
after=$(field sent_bytes)
[ "$after" -lt 14500000 ] || fail "$before bytes before and $after in all, of 12 MiB: something went over twice"
[ "$(export_of a v)" = "$(export_of b a/v)" ] || fail "what is there is something else"

# A restart forgets nothing of it.
host a -q replica set v --to b --window "$closed" --limit 5M
stop a -9
serve a 10.77.0.1
soon state waits || fail "after a restart it is $(field state)"
[ "$(field rate_bytes)" = 5242880 ] || fail "after a restart its limit is $(field rate_bytes)"
both_whole
