#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Three voters: a, whose volume is in step on b, and w, a witness without a copy. b is missing: flushes go on when a majority has written down
# that it is left out, and wait where there is none; b, left out, is not promoted; it comes back, catches up, is taken in again. a is stopped:
# b goes on with all that was flushed, without --accept-loss, and a, awake again, answers nothing, and follows with what only it had in a
# snapshot. About 60 s.
# Usage: degrade.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"
address[w]=10.77.0.3

# voter HOST KEY [SIDE]: what a, or the other side, says of that voter
voter() {
	host "${3:-a}" -o json replica witness list |
		python3 -c "import json,sys; print(*[x['$2'] for x in json.load(sys.stdin)['voters'] if x['host'] == '$1'])"
}
taken_in() { [ "$(voter b in_step)" = True ] && [ "$(voter b stands)" = True ]; }
left_out() { [ "$(field state)" = "left out" ] && [ "$(voter b in_step)" = False ] && [ "$(voter w knows)" = True ]; }
serving() { host a -o json volume show v | python3 -c 'import json,sys; sys.exit(json.load(sys.stdin)["serving"] is not True)'; }
not_serving() { ! serving; }
# put SIDE PATTERN OFFSET LENGTH: written and flushed; `asked` is its pid where it is not waited for
put() { qemu-io -f raw -t writeback -c "write -P $2 $3 $4" -c flush "$(host_uri "$1" v)" >io 2>&1 || fail "a write and a flush: $(cat io)"; }
ask() {
	qemu-io -f raw -t writeback -c "$1" -c flush "$(host_uri a v)" >io.asked 2>&1 &
	asked=$!
}
waits() { kill -0 "$asked" 2>/dev/null || fail "a answered $1: $(cat io.asked)"; }
# reads_of SIDE PATTERN OFFSET LENGTH [VOLUME]
reads_of() { qemu-io -r -f raw -c "read -P $2 $3 $4" "$(host_uri "$1" "${5:-v}")" >io 2>&1 && ! grep -q 'verification failed' io; }

"$VSTORECTL" pki init ca --cluster site 2>/dev/null
ip netns add "$net-w"
at_end=("ip netns del $net-w" "${at_end[@]}")
ip -n "$net-w" link set lo up
wire a w veth1
wire b w veth2
for side in a b w; do
	mkdir -p "$side/store"
	"$VSTORECTL" pki issue ca "$side" "$side/tls" 2>/dev/null
	"$VSTORED" --init --store "$side/store" --any-file-system --log-size 32M >/dev/null
	serve "$side" "${address[$side]}"
done
for side in a b w; do
	for other in a b w; do
		[ $side = $other ] || host $side -q peer add $other "${address[$other]}:7410"
	done
done
host a -q volume create v --size 64M
refused 2 'is for those' host a replica add v b --on-missing degrade
refused 2 'wait or degrade' host a replica add v b --mode sync --on-missing panic
refused 2 'nothing to decide' host a replica witness add v w
host a -q replica add v b --mode sync --on-missing degrade
host a -q replica witness add v w
soon taken_in || fail "b does not get in step: $(host a -o json replica witness list)"
soon serving || fail "a does not serve with b and w"
put a 1 0 8M

# Without a majority nothing is promised, and nothing answered; with it, the flush ends when w has written that b is left out.
kill -STOP "${pids[w]}"
stop b -9
ask 'write -P 2 0 1M'
soon not_serving || fail "a serves alone"
waits "though no majority is there"
[ "$(voter w knows)" = True ] && [ "$(voter b in_step)" = False ] && fail "b was left out by w, which is stopped"
kill -CONT "${pids[w]}"
soon left_out || fail "b is not left out: $(host a -o json replica witness list)"
wait "$asked" || fail "a flush fails without b: $(cat io.asked)"
put a 3 8M 4M
grep -q 'voters.kept owner=a' log || fail "w keeps nothing"

# What b has is not enough, and w knows it, whatever b knows.
ip -n "$net-a" link set veth0 down
serve b "${address[b]}"
refused 6 'No majority of its 3 voters.*knows a as the owner' host b replica promote a/v --yes
put a 4 12M 1M

# It comes back, catches up, and is waited for again.
ip -n "$net-a" link set veth0 up
soon taken_in || fail "b is not taken in again: $(host a -o json replica witness list; host a -o json replica status)"
put a 5 16M 1M
qemu-io -r -f raw -c 'read -P 3 8M 4M' -c 'read -P 5 16M 1M' "$(host_uri b a/v)" >io 2>&1 || fail "b's copy: $(cat io)"
grep -q 'verification failed' io && fail "b was taken in without all that was flushed: $(cat io)"

# a is stopped, with a client that is about to write, and b goes on by a majority.
mkfifo orders
qemu-io -f raw "$(host_uri a v)" <orders >client 2>&1 &
old_client=$!
exec 8>orders
connected() { [ "$(host a -o json volume show v | python3 -c 'import json,sys; print(json.load(sys.stdin)["attachments"])')" = 1 ]; }
soon connected || fail "a's client does not connect"
kill -STOP "${pids[a]}"
echo 'write -P 9 32M 64k' >&8
host b -q replica promote a/v --yes || fail "no promotion by b and w"
{ reads_of b 2 0 1M && reads_of b 3 8M 4M && reads_of b 4 12M 1M && reads_of b 5 16M 1M; } || fail "b lacks what was flushed: $(cat io)"
put b 6 0 1M # a is left out for that
[ "$(voter a in_step b)" = False ] || fail "a flush of b ended while a had to have it"
exec 8>&- # the write of a client that a has from before
kill -CONT "${pids[a]}"

# a hears of it, sends its client away, keeps what only it has as a snapshot, and is taken in again.
ended() { ! kill -0 $old_client 2>/dev/null; }
soon ended || fail "a keeps its client"
wait $old_client || true
! grep -q '^wrote' client || fail "a's client was told that all is well: $(cat client)"
taken_back() { [ "$(voter a in_step b)" = True ]; }
soon taken_back || fail "a is not taken in again: $(host b -o json replica witness list; host b -o json replica status)"
refused 3 'no volume' host a volume show v
there=$(export_of b v)
[ "$(export_of a b/v)" = "$there" ] || fail "a and b differ"
kept=$(host a -o name snap list b/v | grep '@fenced-') || fail "a keeps no snapshot: $(host a snap list)"
host a -q volume clone "$kept" rescued
reads_of a 9 32M 64k rescued || fail "what only a had is not there: $(cat io)"
put b 7 0 1M # with a
stop w -TERM
both_whole
