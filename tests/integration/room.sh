#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A snapshot that is sent to a host without room: the send says so and waits, others that fit go before it, it can be cancelled, and it ends
# well by itself when there is room. About 30 s.
# Usage: room.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

waits() { job_of "$1" waits | grep -q "$2"; }
state() { [ "$(job_of "$1" state)" = "$2" ]; }

two_hosts
stop b -TERM
more=(--capacity 100M)
serve b 10.77.0.2
host a -q peer add b 10.77.0.2:7410
head -c 96M /dev/urandom >data
for volume in large small; do
	host a -q volume create $volume --size 128M
done
qemu-img convert -n -f raw -O raw data "$(host_uri a large)"
host a -q snap create large@s
qio a small 'write -P 5 0 1M'
host a -q snap create small@s

job=$(later large@s b)
soon waits "$job" 'b takes nothing now' || fail "a send to a host without room: $(host a -o json job show "$job")"
state "$job" running || fail "it waits, and its job is not running"
grep -q 'send.refused.*large@s' log || fail "it is not logged"
second=$(later large@s b)
soon waits "$second" 'b takes nothing now' || fail "the second one does not go before the first, which waits: $(host a -o json job show "$second")"
host a -q job cancel "$second"
soon state "$second" cancelled || fail "a send that waits for room cannot be cancelled"

# There is room: it goes on by itself, and sends what is not there yet.
stop b -TERM
more=()
serve b 10.77.0.2
ended() { state "$job" "done"; }
soon ended || soon ended || soon ended || fail "there is room, and it did not go on: $(host a -o json job show "$job")"
same large@s
send small@s b || fail "a small one: $(cat words)"
both_whole
