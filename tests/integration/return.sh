#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A primary of a volume in step is cut off, and another host is promoted. When it is there again it sends its clients away without an answer, ends
# their lease, keeps what only it has as a snapshot, and is in step again by itself: a second failure finds a copy that has all.
# About 15 s, most of it waiting for mandates to pass.
# Usage: return.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"
requires curl

in_step() { [ "$(field state "${1:-a}")" = "in step" ]; }
in_step_b() { in_step b; }
# What SIDE says of the copy NAME that it has
received() { host "$1" -o json replica status | python3 -c "import json,sys; print([r['state'] for r in json.load(sys.stdin)['received'] if r['volume'] == '$2'])"; }

two_hosts
host a -q peer add b "${address[b]}:7410"
host b -q peer add a "${address[a]}:7410"
host a -q volume create v --size 64M
host a -q replica add v b --mode sync
soon in_step || fail "b does not get in step: $(host a -o json replica status)"
qio a v 'write -P 1 0 8M'
[ "$(received b a/v)" = "['in step']" ] || fail "b says of its copy: $(received b a/v)"

# a is alone. Its client, which has a lease, writes, and waits for a flush that does not end; b goes on meanwhile.
curl -sf --unix-socket a/run/storage.sock -X PUT http://x/v1/volumes/v/attachment \
	-d '{"holder": "11111111-2222-3333-4444-555555555555", "holder_name": "web1"}' >answer || fail "no lease: $(cat answer)"
socket=$(python3 -c "import json; print(json.load(open('answer'))['object']['socket'])")
socket=${socket#"$PWD/"}
ip -n "$net-a" link set veth0 down
qemu-io -f raw -c 'write -P 9 32M 64k' "nbd+unix:///v?socket=$socket" >client 2>&1 &
client=$!
wrote() { [ "$(host a -o json volume show v | python3 -c 'import json,sys; print(json.load(sys.stdin)["vseq"])')" -gt "$there" ]; }
there=$(host b -o json volume show a/v | python3 -c 'import json,sys; print(json.load(sys.stdin)["vseq"])')
soon wrote || fail "a's client does not write"
host b -q replica promote a/v --yes --accept-loss
qio b v 'write -P 2 0 1M'
kill -0 $client || fail "a flush ended without b: $(cat client)"

# They see each other again.
ip -n "$net-a" link set veth0 up
soon in_step_b || fail "a does not get in step by itself: $(host b -o json replica status; host a -o json replica status)"
! wait $client || fail "a's client was told that all is well: $(cat client)"
refused 3 'no volume' host a volume show v
refused 3 "'b/v' is a copy" host a volume set v level=2
[ ! -e "$socket" ] || fail "the socket of a's lease is there"
[ "$(field mode b)" = sync ] || fail "a is to be in step, and it says $(field mode b)"
step_back() { [ "$(received a b/v)" = "['in step']" ]; }
soon step_back || fail "a says of its copy: $(received a b/v)"
kept=$(host a -o name snap list b/v | grep '@fenced-') || fail "a keeps no snapshot: $(host a snap list)"
truncate -s 64M want.img
qemu-io -f raw -c 'write -P 1 0 8M' -c 'write -P 9 32M 64k' want.img >/dev/null
[ "$(export_of a "$kept")" = "$(sha256sum <want.img)" ] || fail "$kept is not what a had alone"
host a -q volume clone "$kept" rescued

# A flush on b is one on a; b is lost, and nothing is.
qio b v 'write -P 3 40M 2M'
[ "$(export_of a b/v)" = "$(export_of b v)" ] || fail "a and b differ"
qemu-io -f raw -c 'write -P 1 0 8M' -c 'write -P 0 32M 64k' -c 'write -P 2 0 1M' -c 'write -P 3 40M 2M' want.img >/dev/null
[ "$(export_of a b/v)" = "$(sha256sum <want.img)" ] || fail "both have something else than was written"
both_whole
