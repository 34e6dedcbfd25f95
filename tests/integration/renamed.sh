#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A volume that is renamed while something of it is sent. Of a policy: what is on its way gets there under the old name, once; what comes later
# makes a copy of the new name, for which nothing is sent that is there. Who follows has a copy of the new name, and no cut is left behind.
# About 30 s.
# Usage: renamed.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

# of LIST VOLUME KEY: of what a sends (shipped), or who follows (replicas)
of() { host a -o json replica status | python3 -c "import json,sys; print(next((s['$3'] for s in json.load(sys.stdin)['$1'] if s['volume'] == '$2'), None))"; }
# there COPY: the policy's snapshots in it
there() { { host b -o name snap list "$1" 2>/dev/null || true; } | grep -c '@p-' || true; }
all_sent() { [ "$(of shipped "$1" state)" = same ]; }
equal() { [ "$(export_of a "$1")" = "$(export_of b "$2")" ] || fail "$2 on b is not $1"; }
fetched() { grep "replica.received.*object=$1 " log | tail -n 1 | sed 's/.*fetched=\([0-9]*\).*/\1/'; }
newest() { host a -o name snap list "$1" | grep '@p-' | sort | tail -n 1; }
filled() { # VOLUME, with 6 MiB that are nowhere else
	host a -q volume create "$1" --size 64M
	head -c 6M /dev/urandom >data
	qio a "$1" 'write -s data 0 6M'
}

two_hosts
host a -q peer add b 10.77.0.2:7410
filled v
host a -q policy set p --keep-last 9
host a -q policy attach p v
host a -q policy run p
first=$(newest v)
host a -q policy set p --keep-last 9 --send-to b --limit 1M

soon sends "$first" 3000000 || fail "the policy's snapshot is not sent: $(host a -o json replica status)"
host a -q volume rename v w
soon all_sent w || fail "what was on its way did not get there: $(host a -o json replica status)"
! grep policy.unsent log || fail "a renamed volume's snapshot is said not to be there"
[ "$(grep -c policy.sent log)" = 1 ] || fail "it was sent again: $(grep policy.sent log)"
[ "$(there a/v) $(there a/w)" = "1 0" ] || fail "it is not where it was to go: $(host b -o name snap list)"
equal "w@${first#v@}" "a/$first"

# The next one goes to a copy of the new name; of the old one's chunks none is sent. The marks are the volume's, also after kill -9.
qio a w 'write -P 7 8M 1M'
sleep 1.1
host a -q policy run p
[ "$(newest w)" != "w@${first#v@}" ] || fail "the policy took nothing of the renamed volume"
arrived() { [ "$(there a/w)" = 1 ]; }
soon arrived || fail "the next one did not get there: $(host a -o json replica status)"
[ "$(there a/v)" = 1 ] || fail "the old copy changed: $(host b -o name snap list)"
equal "$(newest w)" "a/$(newest w)"
[ "$(fetched "$(newest w)")" -le 16 ] || fail "$(fetched "$(newest w)") chunks were sent, and 16 are new"
stop a -9
serve a 10.77.0.1
soon all_sent w || fail "after a restart: $(host a -o json replica status)"
[ "$(of shipped w snapshots_sent)" = 0 ] || fail "after a restart something was sent again"

# Another volume gets the old name: the copy there is not its, and that is said, until somebody deletes that.
host a -q volume create v --size 64M
qio a v 'write -P 9 0 1M'
host a -q policy attach p v
host a -q policy run p
taken() { of shipped v error | grep -q "copy of another volume of that name"; }
soon taken || fail "who has the old name is sent to another volume's copy: $(host a -o json replica status)"
beside() { all_sent w && [ "$(there a/w)" = 2 ]; }
soon beside || fail "one that is refused holds up the other: $(host a -o json replica status)"
host b -q volume delete a/v --yes
soon all_sent v || fail "the old copy is gone, and the name is not free: $(host a -o json replica status)"
equal "$(newest v)" "a/$(newest v)"

# Who follows by cuts: renamed while the first one is sent.
filled f
host a -q replica add f b --max-lag 2s --limit 1M
soon sends f@cut- 2000000 || fail "nothing is sent to who follows: $(host a -o json replica status)"
host a -q volume rename f g
near() { [ "$(of replicas g state)" = "$1" ]; }
soon near same || fail "b does not get near what was renamed: $(host a -o json replica status)"
equal g a/g
gone() { ! host a -o name snap list | grep -q '@cut-'; }
soon gone || fail "a cut is left behind: $(host a -o name snap list)"

# Who is in step.
filled s
host a -q replica add s b --mode sync
in_step() { [ "$(of replicas "$1" state)" = "in step" ]; }
soon in_step s || fail "b does not get in step: $(host a -o json replica status)"
host a -q volume rename s t
soon in_step t || fail "b does not get in step with what was renamed: $(host a -o json replica status)"
qemu-io -f raw -t writeback -c 'write -P 5 1M 64k' -c flush "$(host_uri a t)" >io 2>&1 || fail "a flush of what was renamed: $(cat io)"
soon [ -S b/run/nbd/a:t.sock ] || fail "b has no socket for the copy of the new name"
reads "$(host_uri b a/t)" 5 1M 64k || fail "flushed, and not on b"
both_whole
