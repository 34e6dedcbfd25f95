#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A replica in step: what was flushed is on the other host, at every moment; a flush waits while that host is stopped, dead or cut off, and
# ends when it is back or given up; the other host goes on with all that was flushed when the first is lost. About 40 s.
# Usage: sync.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

in_step() { [ "$(field state)" = "in step" ]; }
# put PATTERN OFFSET LENGTH: written and flushed
put() { qemu-io -f raw -t writeback -c "write -P $1 $2 $3" -c flush "$(host_uri a v)" >io 2>&1 || fail "a write and a flush: $(cat io)"; }
# there PATTERN OFFSET LENGTH: on b, now
there() { reads "$(host_uri b a/v)" "$1" "$2" "$3"; }
# held PATTERN OFFSET: a write whose flush must not end yet; its pid is in `waiting`
held() {
	put "$1" "$2" 64k &
	waiting=$!
	sleep 1.5
	kill -0 $waiting 2>/dev/null || fail "a flush ended although b $3"
}
# given_up PATTERN OFFSET WHY: b dies, and then a write whose flush must not end yet, and is to fail; its pid is in `waiting`
given_up() {
	stop b -9
	qemu-io -f raw -t writeback -c "write -P $1 $2 64k" -c flush "$(host_uri a v)" >io.waits 2>&1 &
	waiting=$!
	sleep 1.5
	kill -0 $waiting 2>/dev/null || fail "a flush ended although b is dead and $3: $(cat io.waits)"
}

two_hosts
host a -q volume create v --size 64M
head -c 6M /dev/urandom >data
qio a v 'write -s data 48M 6M'
host a -q snap create v@first # b is never to have this by its copy
put 3 48M 6M
put 1 0 8M
host a -q peer add b 10.77.0.2:7410
refused 2 "sync or async" host a replica add v b --mode always
# Made with its replica; without enough hosts nothing is made.
refused 3 'knows 1' host a volume create two --size 4M --replicas 3
refused 2 'sync or async' host a volume create two --size 4M --replicas 2 --mode always
refused 2 'no number of copies' host a volume create two --size 4M --replicas none
refused 2 'leave --async out' host a --async volume create two --size 4M --replicas 2
refused 2 'replicas 2' host a volume create two --size 4M --mode sync
host a -o name volume list | grep -qx two && fail "a volume was made although it could not be replicated"
host a -o json volume create two --size 4M --replicas 2 --mode sync 2>/dev/null | python3 -c 'import json,sys; json.load(sys.stdin)' || fail "not one document"
soon in_step || fail "the volume made with a replica does not get in step: $(host a -o json replica status)"
[ "$(field volume) $(field host) $(field mode)" = 'two b sync' ] || fail "who follows is $(host a -o json replica status)"
host a -q replica remove two b
host a -q volume delete two --yes
host a -q replica add v b --mode sync --max-lag 5s
soon in_step || fail "b does not get in step: $(host a -o json replica status)"
soon [ -S b/run/nbd/a:v.sock ] || fail "b has no socket for its copy"

# What was flushed is there when the flush ends: blocks, chunks, zeros.
for round in $(seq 12); do
	at=$((round * 3 * 65536 + round * 4096))
	put $((round + 1)) $at $((round * 12288))
	there $((round + 1)) $at $((round * 12288)) || fail "round $round: flushed here, and not on b"
done
qio a v 'discard 0 1M'
there 0 0 1M || fail "zeros did not get to b"
cuts=$(field cuts)

# A person's send of the volume in step: the copy stays in its stream meanwhile, flushes end, and what b has is not sent.
lives() { grep -c 'replica.in_step.*volume=v ' log; }
in_stream=$(lives)
host a -q snap create v@mine
send v@mine b || fail "a send of a volume in step: $(cat words)"
[ "$(result sent)" = 0 ] || fail "$(result sent) chunks were sent that b has"
same v@mine
sending=$(later v@first b --limit 1M)
soon sends v@first || fail "the send does not begin: $(host a -o json job show "$sending")"
flushes=0
is_sent() { [ "$(job_of "$sending" state)" = running ]; }
while is_sent; do
	put $((flushes % 200 + 1)) 60M 64k
	there $((flushes % 200 + 1)) 60M 64k || fail "flushed while a snapshot is sent, and not on b"
	! is_sent || flushes=$((flushes + 1))
done
[ "$(job_of "$sending" state)" = "done" ] || fail "the send of a volume in step: $(host a -o json job show "$sending")"
[ $flushes -ge 1 ] || fail "no flush ended while 6 MiB were sent with 1 MiB a second"
same v@first
[ "$(field cuts) $(lives)" = "$cuts $in_stream" ] || fail "the copy had to get in step again: $(host a -o json replica status)"
[ -z "$(host b -o name trash list)" ] || fail "something is left of what was received: $(host b trash list)"

# b is stopped, dead, cut off: the flush waits, and ends when b is back.
kill -STOP "${pids[b]}"
held 61 20M 'is stopped'
kill -CONT "${pids[b]}"
wait $waiting || fail "the flush that had waited failed"
there 61 20M 64k || fail "what had waited is not on b"
[ "$(field cuts)" = "$cuts" ] || fail "a cut was sent although b was only slow"
stop b -9
held 62 21M 'is dead'
[ -n "$(field error)" ] || fail "nobody is told why: $(host a -o json replica status)"
serve b 10.77.0.2
wait $waiting || fail "the flush that had waited for a new b failed"
there 62 21M 64k || fail "what had waited for a new b is not there"
soon in_step || fail "b does not get in step again"
ip -n "$net-b" link set veth0 down
held 63 22M 'is cut off'
ip -n "$net-b" link set veth0 up
wait $waiting || fail "the flush that had waited for the link failed"
there 63 22M 64k || fail "what had waited for the link is not there"
soon in_step || fail "b does not get in step after the cut"

# a ends while a flush waits for b: it does not wait with it, and the flush is no success.
given_up 66 24M 'a is to end'
kill -TERM "${pids[a]}"
ended() { ! kill -0 "${pids[a]}" 2>/dev/null; }
soon ended || { kill -9 "${pids[a]}"; fail "a does not end while a flush waits for b"; }
wait "${pids[a]}" || fail "a, stopped while a flush waited, ended with $?"
! wait $waiting || fail "a flush ended well although b never saw it: $(cat io.waits)"
serve a 10.77.0.1
serve b 10.77.0.2
soon in_step || fail "b does not get in step with an a that was stopped while a flush waited"

# So it is with a planned restart: the waiting connection is given up, the rest goes on.
given_up 67 26M 'a is to restart'
kill -USR2 "${pids[a]}"
! wait $waiting || fail "a flush ended well although b never saw it, and a restarted: $(cat io.waits)"
soon host a -q volume list || fail "a does not come back from a planned restart while a flush waited"
serve b 10.77.0.2
soon in_step || fail "b does not get in step with an a that restarted while a flush waited"

# A volume that grows goes on being in step.
host a -q volume grow v 80M
put 64 70M 1M
there 64 70M 1M || fail "what was written behind the old end is not on b"

# Given up: nothing waits any more. In step again, from where it is.
stop b -9
held 65 23M 'is dead again'
host a -q replica add v b --mode async --max-lag 2s
wait $waiting || fail "a flush that waits for nobody any more failed"
serve b 10.77.0.2
host a -q replica add v b --mode sync
soon in_step || fail "b does not get in step from async"

# a dies under writes, and comes back: b is in step with what a has.
for round in 1 2 3; do
	put $((70 + round)) 30M 2M
	stop a -9
	serve a 10.77.0.1
	soon in_step || fail "b does not get in step with a restarted a"
	there $((70 + round)) 30M 2M || fail "what was flushed before a died is not on b"
done

# What b did not see, and a restarted a does not remember: a snapshot that was restored.
host a -q snap create v@old
put 75 30M 2M
stop b -9
host a -q snap restore v@old --yes
stop a -TERM
serve a 10.77.0.1
serve b 10.77.0.2
soon in_step || fail "b does not get in step with a restored volume"
there 73 30M 2M || fail "b is said to be in step with what was before the restore"

# A store from a backup that comes to the same epoch and write is another one: b keeps what it has, until somebody decides.
stop a -TERM
cp -a a/store a/backup
serve a 10.77.0.1
put 76 30M 64k
stop a -9
stop b -9
rm -r a/store
mv a/backup a/store
serve a 10.77.0.1
held 77 30M 'is dead, and a from a backup'
serve b 10.77.0.2
from_backup() { host a -o json replica status | grep -q 'that store is from a backup'; }
soon from_backup || fail "a from a backup is not told that it is: $(host a -o json replica status)"
there 76 30M 64k || fail "b gave up what was flushed for a store from a backup"
kill -0 $waiting 2>/dev/null || fail "a store from a backup answered a flush"
host b -q volume delete a/v --yes
wait $waiting || fail "the flush that had waited for b failed"
soon there 77 30M 64k || fail "b is said to have what another life of a wrote"
soon in_step || fail "b does not get in step with a from a backup"

# Somebody who cannot be connected to at all: why not is told.
host a -q volume create w --size 1M
host a -q peer add c 10.77.0.1:9
host a -q replica add w c --mode sync
why() { host a -o json replica status | python3 -c "import json,sys; sys.exit(not any(r['host'] == 'c' and r.get('error') for r in json.load(sys.stdin)['replicas']))"; }
soon why || fail "nobody is told why c is not in step: $(host a -o json replica status)"
host a -q replica remove w c

# a is lost: b has all that was flushed.
put 80 40M 3M
good=$(export_of a v)
stop a -9
refused 6 'accept-loss' host b replica promote a/v --yes
host b -q replica promote a/v --yes --accept-loss
[ "$(export_of b v)" = "$good" ] || fail "what was flushed is not what b goes on with"
# It returns, and waits for an acknowledgement that never comes: nothing that is flushed there is flushed alone.
serve a 10.77.0.1
held 81 50M 'has the volume itself'
soon fenced || fail "a is not told why: $(host a -o json replica status)"
[ "$(export_of b v)" = "$good" ] || fail "a changed what b serves"
host a -q replica remove v b
! wait $waiting || fail "a flush ended well although b is the primary, and never saw it: $(cat io)"
grep -q 'another host was the primary' log || fail "a does not say why it ended the connection"
# Who opens it from now on has it, as b left it behind.
reads "$(host_uri a v)" 80 40M 3M || fail "a, without a replica, does not serve what it has"
both_whole
