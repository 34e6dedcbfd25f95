#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sends of one volume to one host that meet: a person's waits for the daemon's own, says so, can be cancelled, and ends well behind it; a
# connection that is dead, which the other host does not know yet, holds up no new one. About 8 s.
# Usage: line.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

waits() { job_of "$1" waits | grep -q "$2"; }

two_hosts
host a -q volume create v --size 64M
head -c 6M /dev/urandom >data
qemu-img convert -n -f raw -O raw data "$(host_uri a v)"
host a -q snap create v@monday
host a -q peer add b 10.77.0.2:7410

# The daemon's own send is under way for certain: b is stopped in the middle of it.
host a -q replica add v b --max-lag 1h --limit 1M
soon sends v@cut- || fail "nothing is sent by itself"
kill -STOP "${pids[b]}"
[ "$(field sending)" = True ] || fail "the daemon's send ended too early for this test"
first=$(later v@monday b)
second=$(later v@monday b)
for job in $first $second; do
	soon waits "$job" "v@cut-.* is being sent to b" || fail "job $job does not say what it waits for: $(host a -o json job show "$job")"
done
host a -q job cancel "$first"
[ "$(job_of "$first" state)" = cancelled ] || fail "a send that waits cannot be cancelled"
host a replica send v@monday b >out 2>words &
sender=$!
soon grep -q 'is being sent to b.*job cancel' words || fail "a person who waits is not told why: $(cat words)"
kill -CONT "${pids[b]}"
wait $sender || fail "a send that met the daemon's own: $(cat words)"
grep -q 'No chunk had to be sent' words || fail "a person is not told that all was there: $(cat words)"
[ "$(job_of "$second" state)" = "done" ] || fail "the send before it did not end well: $(host a -o json job show "$second")"
soon [ "$(field state)" = same ] || fail "the daemon's send did not end well: $(host a -o json replica status)"
same v@monday

# A connection that dies without a word: a's address is another one now, and b waits for the old one.
head -c 6M /dev/urandom >data
qemu-img convert -n -f raw -O raw data "$(host_uri a v)"
host a -q snap create v@tuesday
dead=$(later v@tuesday b --limit 1M)
soon sends v@tuesday || fail "the send does not begin: $(host a -o json job show "$dead")"
kill -STOP "${pids[b]}"
ip -n "$net-a" addr del 10.77.0.1/24 dev veth0
ip -n "$net-a" addr add 10.77.0.3/24 dev veth0
kill -CONT "${pids[b]}"
host a -q job cancel "$dead"
send v@tuesday b || fail "a send behind a dead connection: $(cat words)"
grep -q 'replica.failed.*v@tuesday.*being received' log || fail "the connection was not dead for b"
same v@tuesday
both_whole
