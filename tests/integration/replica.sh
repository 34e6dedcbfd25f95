#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Two vstored in two network namespaces with a veth between them, real TCP and TLS: snapshots go over, only what changed goes, a cut
# loses nothing, rotated certificates are taken while it runs, and who is not of the site is refused. About 20 s.
# Usage: replica.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"
requires openssl

two_hosts
host a -q volume create v --size 64M
head -c 20M /dev/urandom >data
qemu-img convert -n -f raw -O raw data "$(host_uri a v)"
host a -q snap create v@1

# Nobody knows b yet; then the whole goes over.
refused 3 "no peer 'b'" host a replica send v@1 b
host a -q peer add b 10.77.0.2:7410
refused 2 'a is this host' host a peer add a 10.77.0.1:7410
send v@1 b || fail "the first send: $(cat words)"
[ "$(result sent)" = 320 ] || fail "$(result sent) chunks were sent, not 320"
same v@1
[ "$(host b -o name replica list)" = a/v ] || fail "b does not list its copy"
host b volume verify a/v@1 >/dev/null 2>&1 || fail "the copy is not sound"

# 1 MiB changes: that much goes, and no more than 5 % beside it.
qio a v 'write -P 9 5M 512k'
head -c 512K /dev/urandom >changed
qio a v "write -s changed 40M 512k"
host a -q snap create v@2
send v@2 b || fail "the second send: $(cat words)"
[ "$(result sent)" -le 9 ] && [ "$(result sent)" -ge 8 ] || fail "$(result sent) chunks were sent for 16 that changed, 8 of them alike"
[ "$(result sent_bytes)" -le $((512 * 1024 * 105 / 100 + 40000)) ] || fail "$(result sent_bytes) bytes went over for 512 KiB"
same v@2
send v@2 b || fail "sending it again: $(cat words)"
[ "$(result sent)" = 0 ] || fail "something was sent again"

# What is deleted at the sender stays at the receiver, and nobody there changes it.
host a -q snap delete v@1 --yes
host b -o name snap list a/v | grep -qx 'a/v@1' || fail "a deletion went over"
qemu-io -f raw -c 'write 0 4k' "$(host_uri b a/v)" >/dev/null 2>&1 && fail "the copy can be written"
host b -q volume clone a/v@2 own

# The receiver is killed in the middle, again and again: the send goes on by itself, and what arrived is not sent twice.
head -c 30M /dev/urandom >data
qemu-img convert -n -f raw -O raw data "$(host_uri a v)"
host a -q snap create v@3
host a -o json replica send v@3 b --limit 4M >job 2>words &
sender=$! kills=0
ended() { ! kill -0 $sender 2>/dev/null; }
moves_or_ended() { ended || sends v@3 1000000; }
while [ $kills -lt 5 ]; do
	soon moves_or_ended || fail "the send does not go on after $kills kills: $(cat words)"
	! ended || break # all went over before it was seen
	stop b -9
	serve b 10.77.0.2
	kills=$((kills + 1))
done
wait $sender || fail "the send through $kills kills: $(cat words)"
[ $kills -ge 1 ] || fail "the send was too fast for a kill"
[ "$(grep -c 'send.cut object=v@3 host=b' log)" -ge $kills ] || fail "a does not say of each cut that it goes on"
same v@3
[ "$(result sent_bytes)" -ge $((30 * 1024 * 1024)) ] || fail "only $(result sent_bytes) bytes are counted for 30 MiB"
[ "$(result sent_bytes)" -le $((30 * 1024 * 1024 * 102 / 100 + kills * 8 * 1024 * 1024)) ] || fail "$(result sent_bytes) bytes went over for 30 MiB with $kills kills"

# Certificates: a rotated one is taken while vstored runs; a revoked host is refused, an unknown one too.
"$VSTORECTL" pki rotate ca a a/tls 2>/dev/null
soon grep -q tls.changed log || fail "the new certificate was not taken"
host a -q snap create v@4
send v@4 b || fail "after the rotation: $(cat words)"
# So is a host that has a connection already.
host a -q volume create w --size 1M
host a -q replica add w b --mode sync
in_step() { [ "$(field state)" = 'in step' ]; }
soon in_step || fail "w does not get in step: $(host a -o json replica status)"
"$VSTORECTL" pki revoke ca a --yes 2>/dev/null
cp ca/ca.crl b/tls/ca.crl
out_of_step() { ! in_step; }
soon out_of_step || fail "the connection of a revoked host goes on: $(host a -o json replica status)"
grep -q 'certificate of a is not good any more: certificate revoked' log || fail "b does not say why it ended a's connection"
shut_out() { ! send v@4 b; } # which is there already
soon shut_out || fail "the revocation was not taken"
host a -q snap create v@5
refused 1 'refused|TLS|certificate|closed' host a replica send v@5 b
grep -q 'peer.refused' log || fail "b does not say that it refused somebody"
"$VSTORECTL" pki rotate ca a a/tls 2>/dev/null
soon send v@5 b || fail "with a certificate that is not revoked: $(cat words)"
soon in_step || fail "w does not get in step with a's new certificate: $(host a -o json replica status)"
host a -q peer add c 10.77.0.2:7410
refused 6 'there is b' host a replica send v@5 c

# Who speaks no TLS, or an old one, gets nothing.
# asks OPTION...: the connection is kept for a second, so that a refusal is seen
asks() { sleep 1 | ip netns exec "$net-a" openssl s_client "$@" -connect 10.77.0.2:7410 >s_client 2>&1 || true; }
asks -cert a/tls/host.crt -key a/tls/host.key
if grep -qi alert s_client; then fail "a certificate of the site is refused: $(tail -n 5 s_client)"; fi
for words in '-tls1_2' '-tls1_3'; do
	asks "$words"
	grep -qiE 'alert (protocol version|certificate required|handshake failure)' s_client || fail "openssl $words was let in: $(tail -n 5 s_client)"
done
both_whole
refused 2 'pki issue' "$VSTORED" --store a/store --run other --any-file-system --listen 10.77.0.1:1
