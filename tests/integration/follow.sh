#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A host that follows a volume of another one, in use: it gets near, stays near through kill -9 on both sides, is told what it has for
# certain; it takes the volume over, and the old primary that comes back changes nothing there. About 30 s.
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
refused 6 'not here.*--accept-loss' host b replica promote a/v
host b -q replica promote a/v --accept-loss
[ "$(export_of b v)" = "$good" ] || fail "the promoted volume is not what b had"
qio b v 'write -P 55 1M 1M'
mine=$(export_of b v)

# a returns, and does not know: its cuts are refused, with a reason; its own data stays as it is.
serve a 10.77.0.1
soon fenced || fail "a was not told that b has the volume: $(host a -o json replica status)"
[ "$(export_of b v)" = "$mine" ] || fail "a changed what b serves"
[ "$(export_of a v)" != "$mine" ] || fail "a lost what was its own"

# Now the other way round: a gives its own up, and follows.
host a -q replica remove v b
refused 3 'no replica' host a replica remove v b
host a -q volume delete v --yes
host b -q peer add a 10.77.0.1:7410
host b -q replica add v a --max-lag 1s
back() { [ "$(field state b)" = same ]; }
soon back || fail "the way back does not work: $(host b -o json replica status)"
[ "$(export_of a "$(host a -o name snap list b/v | tail -n 1)")" = "$mine" ] || fail "what came back is not b's"
both_whole
