#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A policy that sends: what it takes goes to its host by itself, what was missed while that was away follows, what was deleted there does not
# come back, also not after kill -9; what the rules remove here stays there; hours hold; a replica of the same volume goes on beside. About 40 s.
# Usage: ship.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

# ship KEY [VOLUME]: of what a's policies send
ship() { host a -o json replica status | python3 -c "import json,sys; print(next((s['$1'] for s in json.load(sys.stdin)['shipped'] if s['volume'] == '${2:-v}'), None))"; }
there() { { host b -o name snap list a/v 2>/dev/null || true; } | grep -c '@p-' || true; }
has() { [ "$(there)" = "$1" ] && [ "$(ship waiting)" = 0 ]; }
waits() { [ "$(ship waiting)" = "$1" ]; }
# take: one more of v, with other data in it; their names differ by the second
take() {
	sleep 1.1
	qio a v "write -P $((++round)) ${round}M 2M"
	host a -q policy run p
}
newest() { host a -o name snap list v | grep '@p-' | tail -n 1; }
round=0

two_hosts
host a -q volume create v --size 64M
refused 3 "no peer 'b'" host a policy set p --keep-last 9 --send-to b
host a -q peer add b 10.77.0.2:7410
refused 2 'named once' host a policy set p --keep-last 9 --send-to b,b
refused 2 'say where to' host a policy set p --keep-last 9 --limit 5M
refused 2 'no hours' host a policy set p --keep-last 9 --send-to b --window noon

# What it took before it was told to send goes along.
host a -q policy set p --keep-last 9
host a -q policy attach p v
take
host a -q policy set p --keep-last 9 --send-to b
take
soon has 2 || fail "the policy's snapshots are not there: $(host a -o json replica status)"
same "$(newest)"
[ "$(ship state)" = same ] || fail "all is there, and the state is $(ship state)"

# The host is away: what is not there is counted, and follows. A kill of the sender between forgets nothing.
stop b -TERM
take
take
soon waits 2 || fail "two are not there, and $(ship waiting) are said to be: $(host a -o json replica status)"
stop a -9
serve a 10.77.0.1
take
soon waits 3 || fail "three are not there, and $(ship waiting) are said to be"
unreached() { ship error | grep -q 'cannot be reached'; }
soon unreached || fail "nobody is told why: $(ship error)"
serve b 10.77.0.2
soon has 5 || fail "what was missed did not follow: $(host a -o json replica status)"
same "$(newest)"
sort -c <(grep -o 'policy.sent snapshot=[^ ]*' log) || fail "they went in another order than they were taken: $(grep policy.sent log)"

# Each side removes what it likes.
first=$(host b -o name snap list a/v | grep '@p-' | head -n 1)
host b -q snap delete "$first" --yes
host a -q policy set p --keep-last 2 --send-to b
few() { [ "$(host a -o name snap list v | grep -c '@p-')" = 2 ]; }
soon few || fail "the rules are not followed here"
stop a -9
serve a 10.77.0.1
take
soon has 5 || fail "four and a new one are not five: $(host b -o name snap list a/v)"
! host b -o name snap list a/v | grep -q "^$first$" || fail "what was deleted there came back"

# Hours.
host a -q policy set p --keep-last 2 --send-to b --window "$(date -d '+3 hours' +%H:00)-$(date -d '+5 hours' +%H:00)"
take
held() { [ "$(ship state)" = waits ]; }
soon held || fail "outside of its hours it is $(ship state)"
[ "$(there)" = 5 ] || fail "something was sent outside of its hours"
host a replica status -o wide >screen
grep -q 'waits for its hours' screen || fail "that it waits is not shown: $(cat screen)"
host a -q policy set p --keep-last 2 --send-to b
soon has 6 || fail "its hours began, and it was not sent: $(host a -o json replica status)"

# A replica of the same volume on the same host.
host a -q replica add v b --max-lag 2s
near() { [ "$(field state)" = same ]; }
for _ in 1 2; do
	take
	soon near || fail "the replica does not get near: $(host a -o json replica status)"
done
soon has 8 || fail "beside a replica they are not sent: $(host a -o json replica status)"
same "$(newest)"
host a -o json api GET /metrics 2>/dev/null | grep -q 'policy_unsent_snapshots' || host a api GET /metrics | grep -q 'vstore_policy_unsent_snapshots{volume="v",host="b",policy="p"} 0' ||
	fail "there is no figure of it"
both_whole
