#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A policy that sends to a host where the same volume is in step: its snapshots are received beside the copy, guests' flushes go on, the copy
# stays in its stream; the receiver is killed in the middle of one and started again: it gets the rest, and nothing is sent again, also not
# after a kill of the sender. About 40 s.
# Usage: ship_sync.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

# ship KEY: of what a's policy sends
ship() { host a -o json replica status | python3 -c "import json,sys; print((json.load(sys.stdin)['shipped'] or [{}])[0].get('$1'))"; }
has() { [ "$(host b -o name snap list a/v | grep -c '@p-')" = "$1" ] && [ "$(ship waiting)" = 0 ]; }
in_step() { [ "$(field state)" = "in step" ]; }
put() { qemu-io -f raw -t writeback -c "write -P $1 $2 $3" -c flush "$(host_uri a v)" >io 2>&1 || fail "a write and a flush: $(cat io)"; }
there() { reads "$(host_uri b a/v)" "$1" "$2" "$3"; }
lives() { grep -c 'replica.in_step.*volume=v ' log; }
# fetched SNAPSHOT: how many of its chunks b asked for, the last time
fetched() { grep "replica.received.*object=$1 " log | tail -n 1 | sed 's/.*fetched=\([0-9]*\).*/\1/'; }

two_hosts
host a -q volume create v --size 64M
host a -q policy set p --keep-last 9
host a -q policy attach p v
# Two snapshots of what b is never to have by its copy: 6 MiB each.
for _ in 1 2; do
	head -c 6M /dev/urandom >data
	qio a v 'write -s data 48M 6M'
	host a -q policy run p
	sleep 1.1 # their names differ by the second
done
mapfile -t taken < <(host a -o name snap list v | grep '@p-' | sort)
[ ${#taken[@]} = 2 ] || fail "the policy took ${taken[*]}"
put 3 48M 6M
host a -q peer add b 10.77.0.2:7410
host a -q replica add v b --mode sync --max-lag 5s
soon in_step || fail "b does not get in step: $(host a -o json replica status)"
soon [ -S b/run/nbd/a:v.sock ] || fail "b has no socket for its copy"
cuts=$(field cuts) in_stream=$(lives)

# The first one goes, slowly; flushes end meanwhile, and what they are of is on b.
host a -q policy set p --keep-last 9 --send-to b --limit 1M
soon sends "${taken[0]}" || fail "the policy's snapshot is not sent: $(host a -o json replica status)"
flushes=0
while sends "${taken[0]}"; do
	put $((flushes % 200 + 1)) 60M 64k
	there $((flushes % 200 + 1)) 60M 64k || fail "flushed while a policy's snapshot is sent, and not on b"
	! sends "${taken[0]}" || flushes=$((flushes + 1))
done
[ $flushes -ge 1 ] || fail "no flush ended while 6 MiB were sent with 1 MiB a second"
[ "$(field cuts) $(lives)" = "$cuts $in_stream" ] || fail "the copy had to get in step again: $(host a -o json replica status)"

# b is killed in the middle of the second one. A flush waits until it is back; the snapshot gets there, and what had arrived is not sent again.
soon sends "${taken[1]}" 3500000 || fail "the second one is not sent: $(host a -o json replica status)"
stop b -9
put 201 61M 64k &
waiting=$!
serve b 10.77.0.2
wait $waiting || fail "the flush that had waited for b failed"
there 201 61M 64k || fail "what had waited for b is not there"
soon has 2 || fail "the second one did not get there: $(host a -o json replica status)"
soon in_step || fail "b does not get in step again: $(host a -o json replica status)"
same "${taken[0]}"
same "${taken[1]}"
[ "$(fetched "${taken[1]}")" -le 70 ] || fail "$(fetched "${taken[1]}") of 96 chunks were sent after 3.5 MB had arrived"
[ -z "$(host b -o name trash list)" ] || fail "something is left of what was received: $(host b trash list)"
[ "$(grep -c 'policy.sent' log)" = 2 ] || fail "two were to be sent: $(grep policy.sent log)"

# What b has by its stream is not sent; the mark of all three outlives a kill of a.
sleep 1.1
host a -q policy run p
soon has 3 || fail "a snapshot of what b has did not get there: $(host a -o json replica status)"
third=$(host a -o name snap list v | grep '@p-' | sort | tail -n 1)
same "$third"
[ "$(fetched "$third")" = 0 ] || fail "$(fetched "$third") chunks were sent that b has"
stop a -9
serve a 10.77.0.1
all_there() { [ "$(ship state)" = same ]; }
soon all_there || fail "after a restart its snapshots are $(ship state)"
[ "$(ship snapshots_sent)" = 0 ] || fail "after a restart something was sent again"
soon in_step || fail "b does not get in step with a restarted a"
both_whole
