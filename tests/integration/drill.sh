#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A host is lost with its disks, and an empty one takes its name: the lines of deploy/drill.md, as they stand there, volumes, snapshots and policies come back, with a kill -9 in the
# middle of the way back; the old host returns, with its old certificate and with a good one. Under a minute.
# Usage: drill.sh VSTORED VSTORECTL DRILL.MD
VSTORED=$1 VSTORECTL=$(realpath "$2") page=$(realpath "$3") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

# What the page's words stand for here.
mkdir bin
printf '#!/bin/sh\nexec "%s" "$@" --any-file-system --log-size 32M\n' "$VSTORED" >bin/vstored
printf '#!/bin/sh\nexec "%s" "$@" </dev/null\n' "$VSTORECTL" >bin/vstorectl
chmod +x bin/*
ran=0
# page SECTION: runs its lines, each on its host
page() {
	local at command
	while read -r at command; do
		ran=$((ran + 1))
		if [ "$command" = "systemctl start vstored" ]; then
			serve "${at%#}" "${address[${at%#}]}"
			continue
		fi
		env PATH="$work/bin:$PATH" CA="$work/ca" TLS="$work/${at%#}/tls" STORE="$work/${at%#}/store" A=10.77.0.1:7410 B=10.77.0.2:7410 \
			VSTORE_HOST="unix:$work/${at%#}/run/storage.sock" bash -c "$command" >out 2>&1 </dev/null || fail "$at $command: $(cat out)"
	done < <(sed -n "/^## $1/,/^## /s/^    \(\(a\|b\|ca\)# .*\)/\1/p" "$page")
}
state_is() {
	host a -o json replica status >states
	python3 -c "import json,sys; sys.exit(not any(r['volume'] == '$1' and r['state'] == '$2' for r in json.load(open('states'))['replicas']))"
}
settled() { state_is web1 'in step' && state_is files same; }

policy_is() { # HOST COPY NAME: what the copy's original has
	host "$1" -o json volume show "$2" | grep -q "\"home_policy\": *\"$3\""
}
rules_of() { # HOST POLICY: all of it but its number there
	host "$1" -o json policy show "$2" | python3 -c 'import json,sys; r = json.load(sys.stdin); del r["number"]; print(r)'
}
sent_daily() { [ "$(host b -o name snap list a/web1 | grep -c '^a/web1@daily-')" -ge "$1" ]; }

two_hosts
for volume in web1 files; do
	host a -q volume create $volume --size 64M
	head -c 12M /dev/urandom >data
	qemu-img convert -n -f raw -O raw data "$(host_uri a $volume)"
	host a -q snap create $volume@monday
done
page 'While all is well'
soon settled || fail "b does not get near: $(host a -o json replica status)"
# What was written behind the snapshots: flushed, or followed.
qemu-io -f raw -t writeback -c 'write -P 7 20M 1M' -c flush "$(host_uri a web1)" >io || fail "a write: $(cat io)"
qio a files 'write -P 8 30M 1M'
soon settled || fail "b does not get near after writes"
# The policies are known there: as they are now, also where nothing is written and no snapshot goes over.
soon policy_is b a/web1 daily || fail "b does not know web1's policy: $(host b -o json volume show a/web1)"
soon sent_daily 1 || fail "what the policy takes is not sent: $(host a -o json replica status)"
policy_is b a/files '' || fail "files has a policy that nobody gave it"
host a -q policy set quiet --keep-last 3
for volume in web1 files; do host a -q policy attach quiet $volume; done
for volume in web1 files; do soon policy_is b a/$volume quiet || fail "b does not hear of a new policy of $volume"; done
host a -q policy attach daily web1
soon policy_is b a/web1 daily || fail "b does not hear that web1 has its old policy again"
soon settled || fail "b does not get near after policies"
was=$(rules_of a daily; rules_of a quiet)
declare -A good=()
for name in web1 files web1@monday files@monday; do good[$name]=$(export_of a $name); done

# The machine is off; its disks are carried away, to come back at the end.
stop a -9
mkdir old
mv a/store a/tls old/
rm -rf a
mkdir -p a/store
page 'a is lost'

# The way back is cut off by a kill of the receiver: there is nothing that could be taken for a volume, and then it goes on.
sed '/The replacement/,$!d; /^    a# systemctl/q' "$page" >start.md
whole_page=$page
page=$work/start.md
page 'The replacement'
page=$whole_page
host b -q peer add a 10.77.0.1:7410
sending=$(host b -o name --async replica send a/web1@rescued a --limit 2M)
sleep 1
stop a -9
host b -q job cancel "$sending" || fail "a send without a receiver cannot be cancelled: $(host b -o json job show "$sending")"
serve a 10.77.0.1
[ -z "$(host a -o name snap list)" ] || fail "half of a snapshot was published: $(host a -o name snap list)"
refused 2 'received in whole' host a replica recover b/web1
refused 5 'half of a transfer' host a snap create b/web1@torn
sed '/^    a# mkdir\|^    a# vstored\|^    a# systemctl\|^    ca# vstorectl pki issue/d' "$page" >rest.md
page=$work/rest.md
page 'The replacement'
page=$whole_page
for name in "${!good[@]}"; do
	[ "$(export_of a "$name")" = "${good[$name]}" ] || fail "$name is not what it was"
done
[ "$(host a -o name snap list web1 | grep -c '^web1@\(monday\|rescued\)$')" = 2 ] || fail "snapshots of web1 are missing: $(host a -o name snap list)"
[ "$(rules_of a daily; rules_of a quiet)" = "$was" ] || fail "the policies are not what they were: $(rules_of a daily; rules_of a quiet); they were $was"
soon sent_daily 2 || fail "what the policy takes now is not sent: $(host a -o json replica status)"
soon settled || fail "b does not follow the new a: $(host a -o json replica status)"
qemu-io -f raw -t writeback -c 'write -P 9 40M 1M' -c flush "$(host_uri a web1)" >io || fail "a write to what came back: $(cat io)"
reads "$(host_uri b a/web1)" 9 40M 1M || fail "what is flushed on the new a is not on b"
# A volume that is made on the new a has a key that b has never seen, and the name that the old one's had.
host a -q volume create fresh --size 8M
qio a fresh 'write -P 3 0 1M'
host a -q snap create fresh@1
send fresh@1 b || fail "what is made on the new a does not get to b: $(cat words)"
same fresh@1
[ "$ran" -ge 25 ] || fail "the page has only $ran lines that could be run"

# The old machine comes back, with its old certificate, and then with one that is good.
serves=$(export_of b a/web1@monday)
answers() { host "$1" status >/dev/null 2>&1; }
old_back() { # TLS-FOLDER
	ip netns exec "$net-a" "$VSTORED" --store old/store --run old/run --any-file-system --tls "$1" --listen 10.77.0.1:7411 2>>old.log &
	pids[old]=$!
	soon answers old || fail "the old vstored does not start"
}
says() { host old -o json replica status | grep -q "$1"; }
stop a -TERM
refusals=$(grep -c 'peer.refused' log || true)
old_back old/tls
shut_out() { [ "$(grep -c 'peer.refused' log)" -gt "$refusals" ]; }
soon shut_out || fail "b does not refuse the revoked certificate"
says '"in step"\|"same"' && fail "the old host says that b has what it has"
stop old -TERM
old_back a/tls
soon says 'older one' || fail "the old host is not told that it is stale: $(host old -o json replica status)"
stop old -TERM
reads "$(host_uri b a/web1)" 9 40M 1M || fail "the old host changed b's copy"
[ "$(export_of b a/web1@monday)" = "$serves" ] || fail "the old host changed b's snapshot"
serve a 10.77.0.1
soon settled || fail "the new a is not in step after all that: $(host a -o json replica status)"

# The host with the copies is lost: what a policy sent is sent again as well.
qio a files 'write -P 5 2M 1M'
host a -q policy set off --keep-last 9 --send-to b
host a -q policy attach off files
host a -q policy run off
taken=$(host a -o name snap list files | grep files@off-) || fail "the policy takes nothing"
has() { host b -o name snap list a/files 2>/dev/null | grep -qx "a/$1"; }
soon has "$taken" || fail "what the policy took does not get to b"
for name in web1 files web1@monday files@monday; do good[$name]=$(export_of a $name); done
stop b -9
rm -rf b ca/b
mkdir -p b/store
page 'b is lost'
soon settled || fail "the new b does not get what it is to have: $(host a -o json replica status)"
soon has "$taken" || fail "what a policy had sent is not sent again"
for name in web1 files web1@monday files@monday; do
	[ "$(export_of b "a/$name")" = "${good[$name]}" ] || fail "$name is not on the new b"
done
both_whole
