#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A host that follows a volume of another one, in use: it gets near, stays near through kill -9 on both sides, is told what it has for
# certain; it takes the volume over, and the old primary that comes back changes nothing there. When it is to follow, it keeps what only it
# has as a snapshot, and does; and takes over in turn. About 40 s.
# Usage: follow.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

near() { [ "$(field state)" = same ]; }
fill() { qio a v "write -P $1 $2 $3" || fail "the volume cannot be written"; }
cuts() { host "$1" -o name snap list | grep -c '@cut-' || true; }
# The newest cut that b has of v.
newest() { host b -o name snap list a/v | grep '@cut-' | tail -n 1; }
follows() { # what b has is what a has
	soon near || fail "b does not get near: $(host a -o json replica status)"
	[ "$(export_of b "$(newest)")" = "$(export_of a v)" ] || fail "b follows, and has something else"
}

two_hosts
host a -q volume create v --size 64M
fill 1 0 8M
refused 3 "no peer 'b'" host a replica add v b
host a -q peer add b 10.77.0.2:7410
refused 2 'is no time' host a replica add v b --max-lag never
refused 2 'no whole number of seconds' host a replica add v b --max-lag 500ms
refused 2 '1s or more' host a replica add v b --max-lag 0s
host a -q replica add v b --max-lag 2s
follows
[ "$(field verified_root)" = "$(host b -o json snap show "$(newest)" | python3 -c 'import json,sys; print(json.load(sys.stdin)["root"])')" ] ||
	fail "the root that is told as verified is not b's"

# It stays near while somebody writes, and only the newest cut is kept.
for round in 1 2 3; do
	fill "$round" "${round}M" 3M
	sleep 0.7
done
follows
[ "$(cuts b)" = 1 ] || fail "b keeps $(cuts b) cuts"
gone() { [ "$(cuts a)" = 0 ]; }
soon gone || fail "a keeps the cuts that it has sent"

# b dies: a goes on, says how much is not there; b comes back and gets near. Then the same with a.
stop b -9
fill 7 20M 5M
late() { [ "$(field state)" = late ] && [ "$(field lag_bytes)" -ge $((5 * 1024 * 1024)) ]; }
soon late || fail "nobody is told that b is late: $(host a -o json replica status)"
host a -o json replica status | grep -q 'cannot be reached' || fail "nobody is told why b is late"
serve b 10.77.0.2
follows
for round in 1 2 3; do
	fill $((10 + round)) "$((4 * round))M" 2M
	sleep 0.$((round * 3))
	stop a -9
	serve a 10.77.0.1
done
follows
soon gone || fail "a keeps cuts of its earlier lives"
qio a v 'discard 0 16M'
host a -q volume grow v 80M
follows

# a is lost. b is asked first whether that is so; then it has the volume, and a's copy beside it.
good=$(export_of a v)
fill 99 0 64k
stop a -9
refused 6 'not here.*--accept-loss' host b replica promote a/v --yes
as_of=$(host b -o json replica status | python3 -c "import json,sys; print([r['as_of'] for r in json.load(sys.stdin)['received']])")
[ "$as_of" = "['$(host b -o json snap list a/v | python3 -c "import json,sys; print(json.load(sys.stdin)['snapshots'][-1]['created'])")']" ] ||
	fail "b says its copy is as of $as_of: $(host b snap list a/v)"
host b -q replica promote a/v --yes --accept-loss
[ "$(export_of b v)" = "$good" ] || fail "the promoted volume is not what b had"
qio b v 'write -P 55 1M 1M'
mine=$(export_of b v)

# a returns, and does not know: its cuts are refused, with a reason; its own data stays as it is.
serve a 10.77.0.1
soon fenced || fail "a was not told that b has the volume: $(host a -o json replica status)"
[ "$(export_of b v)" = "$mine" ] || fail "a changed what b serves"
[ "$(export_of a v)" != "$mine" ] || fail "a lost what was its own"

# Now the other way round. Who uses a's volume is not cut off, as nothing says that it may not go on; then a gives it up: what only a has is a
# snapshot, and the rest comes from b.
refused 3 'no replica' host a replica remove v c
qio a v 'write -P 77 5M 1M'
only=$(export_of a v)
host a -q snap create v@kept
host a -q volume clone v@kept w
mkfifo orders
qemu-io -r -f raw "$(host_uri a v)" <orders >/dev/null 2>&1 &
user=$!
exec 7>orders
used() { [ "$(host a -o json volume show v | python3 -c 'import json,sys; print(json.load(sys.stdin)["attachments"])')" = 1 ]; }
soon used || fail "a's volume is not in use"
host b -q peer add a 10.77.0.1:7410
host b -q replica add v a --max-lag 1s
in_use() { host b -o json replica status | grep -q 'it is in use there'; }
soon in_use || fail "b is not told that a's volume is in use: $(host b -o json replica status)"
kill -0 $user || fail "who used a's volume was cut off"
exec 7>&-
wait $user || fail "who used a's volume was cut off"
back() { [ "$(field state b)" = same ]; }
soon back || fail "the way back does not work: $(host b -o json replica status)"
refused 3 'no volume' host a volume show v
[ "$(export_of a b/v)" = "$mine" ] || fail "what came back is not b's"
kept=$(host a -o name snap list b/v | grep '@fenced-') || fail "a keeps no snapshot of what only it had: $(host a snap list)"
[ "$(export_of a "$kept")" = "$only" ] || fail "$kept is not what a had"
[ "$(export_of a b/v@kept)" = "$only" ] || fail "a's own snapshot is not what it was"
[ "$(export_of a w)" = "$only" ] || fail "a clone of a's volume is not what it was"

# b is lost, a takes over again, and b, which has been told where a is, does as a did: without a snapshot, as a has all that b had.
qio b v 'write -P 56 2M 1M'
mine=$(export_of b v)
soon back || fail "a does not follow b: $(host b -o json replica status)"
stop b -9
host a -q replica promote b/v --yes --accept-loss
[ "$(export_of a v)" = "$mine" ] || fail "a goes on with something else than b had"
qio a v 'write -P 57 3M 1M'
serve b 10.77.0.2
near_b() { host a -o json replica status | python3 -c "import json,sys; sys.exit(not any(r['host'] == 'b' and r['volume'] == 'v' and r['state'] == 'same' for r in json.load(sys.stdin)['replicas']))"; }
soon near_b || fail "b does not follow by itself: $(host a -o json replica status)"
[ "$(export_of b a/v)" = "$(export_of a v)" ] || fail "b follows, and has something else"
host b -o name snap list a/v | grep '@fenced-' && fail "b keeps a snapshot, though a had all of it"
both_whole
if grep "says: [ab] says" log; then fail "what a host said was said back to it"; fi
