#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A host that is sent snapshots, with a policy of its own on the copy: its rules decide what of them stays, over kill -9 too; what a person named,
# what is held and the newest stay; nothing is taken there, and nothing sent again; a follower of the same volume goes on, and a promotion. About 60 s.
# Usage: archive.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

# take: one more of v, with other data in it, by a's policy; their names differ by the second
take() {
	sleep 1.1
	qio a v "write -P $((++round)) ${round}M 2M"
	host a -q policy run p
}
round=0
copies() { host b -o name snap list a/v | grep '@p-' | sort; }
there() { [ "$(copies | wc -l)" = "$1" ]; }
newest() { host a -o name snap list v | grep '@p-' | sort | tail -n 1; }
# has_newest COUNT: b has so many, the newest of a's with them, and a has nothing left to send
has_newest() {
	there "$1" && copies | grep -qx "a/$(newest)" &&
		[ "$(host a -o json replica status | python3 -c "import json,sys; print(json.load(sys.stdin)['shipped'][0]['waiting'])")" = 0 ]
}
rule() { sed -n "s/^a\/$1,//p" plan; }

two_hosts
host a -q volume create v --size 64M
host a -q peer add b 10.77.0.2:7410
host a -q snap create v@before-migration
host a -q replica send v@before-migration b 2>/dev/null
host a -q policy set p --keep-last 9 --send-to b
host a -q policy attach p v
for _ in 1 2 3 4 5; do take; done
soon has_newest 5 || fail "the policy's snapshots are not there: $(copies)"
mapfile -t first < <(copies)

# What would go is shown, and nothing goes by that.
host b -q policy set archive --keep-last 2
refused 3 "no volume named 'a/w'" host b policy attach archive a/w --dry-run
host b -o csv --no-header -c SNAPSHOT,ACTION,RULE policy attach archive a/v --dry-run >plan
[ "$(rule "${first[4]#a/}") $(rule "${first[3]#a/}") $(rule "${first[2]#a/}")" = 'keep,last 1 of 2 keep,last 2 of 2 remove,' ] || fail "the plan is $(cat plan)"
[ "$(rule v@before-migration)" = "keep,no policy's" ] || fail "the plan of what a person named is $(cat plan)"
[ "$(wc -l <plan)" = 6 ] || fail "the plan has something to take: $(cat plan)"
sleep 6
there 5 || fail "a dry run removed something: $(copies)"

# Attached, they go to the trash; one that is held does not. Nothing is taken, also when somebody wants it.
host b -q snap hold audit "${first[0]}"
refused 2 '2 of what was received' host b policy attach archive a/v
host b -q policy attach archive a/v --yes
soon there 3 || fail "the rules are not followed: $(copies)"
host b -q policy run archive
[ "$(copies | tr '\n' ' ')" = "${first[0]} ${first[3]} ${first[4]} " ] || fail "what stays is $(copies)"
[ "$(host b -o name snap list a/v | grep -cv '@p-')" = 1 ] || fail "something was taken of a copy, or a person's went: $(host b snap list a/v)"
[ "$(host b -o name trash list | wc -l)" = 2 ] || fail "what went is not in the trash: $(host b trash list)"
refused 5 'detach' host b policy delete archive --yes
# Under a name that is no policy's it stays.
id=$(host b -o csv --no-header -c ID,NAME trash list | sed -n "s#,${first[1]}\$##p")
host b -q trash restore "$id" --as keep-this

# Another comes, and one goes; b is killed between, and a is.
stop b -9
stop a -9
serve a 10.77.0.1
serve b 10.77.0.2
take
take
soon has_newest 3 || fail "after the kills: $(copies)"
copies | grep -qx "${first[0]}" || fail "one that is held went"
same "$(newest)"
host b -o name snap list a/v | grep -qx a/v@keep-this || fail "what somebody named went"
host b -q snap release audit "${first[0]}"
take
soon has_newest 2 || fail "what is not held any more stays: $(copies)"

# Somebody sends an old one again: it drives out nothing that is newer, and has a place of those that come late.
host a -q replica send "${first[2]#a/}" b 2>/dev/null
host b -q policy run archive
[ "$(copies | head -n 1) $(copies | wc -l)" = "${first[2]} 3" ] || fail "one that came late drove out others, or went: $(copies)"
copies | grep -qx "a/$(newest)" || fail "the newest went for one that came late: $(copies)"
[ "$(grep -c "policy.sent snapshot=$(newest) " log)" = 1 ] || fail "it was sent again: $(grep policy.sent log)"

# A follower of the same volume keeps its cuts, and is promoted; the copy stays under its rules.
host a -q replica add v b --max-lag 2s
near() { [ "$(field state)" = same ]; }
for _ in 1 2 3; do take; done
soon has_newest 2 || fail "beside a follower: $(copies)"
soon near || fail "the follower does not get near: $(host a -o json replica status)"
same "$(newest)"
a=$(export_of a v)
stop a -TERM
host b -q replica promote a/v --accept-loss --yes
[ "$(export_of b v)" = "$a" ] || fail "what was promoted is not what a had"
policy() { host b -o json volume show "$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['policy'])"; }
[ "$(policy v),$(policy a/v)" = ,archive ] || fail "their policies are $(policy v),$(policy a/v)"
serve a 10.77.0.1
both_whole
