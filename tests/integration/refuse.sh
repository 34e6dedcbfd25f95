#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Who is refused by a vstored, and what it says then: another CA, a certificate that has expired, is revoked, of another cluster, of no host
# or of this very host, TLS 1.2, no TLS, garbage, who takes all the time there is, a crowd that says nothing, a recorded transfer, and a peer
# that wants to change another host's copy. All the while its peer goes on. About 15 s, 10 of them for who takes its time.
# Usage: refuse.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"
requires openssl curl

b=10.77.0.2:7410
attack() { ip netns exec "$net-a" python3 "$here/refuse.py" "$@"; }
refusals() { curl -sS --unix-socket b/run/storage.sock http://vstore/metrics | sed -n 's/^vstore_repl_refused_total //p'; }
# said TEXT [COUNT]: b refused somebody from a's address, with a sentence that has it, so often
said() { [ "$(grep -E 'peer.refused .*from=10\.77\.0\.1:[0-9]+ ' log | grep -cE -e "$1")" -ge "${2:-1}" ]; }
# shut_out TEXT COMMAND...: that is what b says, and it counts it
shut_out() {
	local text=$1 before
	before=$(refusals)
	shift
	"$@" >words 2>&1 || fail "$*: $(cat words)"
	soon said "$text" || fail "b does not say '$text' of: $* ($(grep peer.refused log | tail -n 3))"
	[ "$(refusals)" -gt "$before" ] || fail "b does not count the refusal of: $*"
}
# sign FOLDER SAN DAYS: a certificate by the site's CA that vstorectl would not make
sign() {
	mkdir "$1"
	openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /O=site/CN=x -keyout "$1/host.key" -out "$1/csr" 2>/dev/null
	openssl x509 -req -in "$1/csr" -CA ca/ca.crt -CAkey ca/ca.key -set_serial "0x$(openssl rand -hex 8)" -days "$3" \
		-extfile <(echo "subjectAltName=$2") -out "$1/host.crt" 2>words || fail "no certificate: $(cat words)"
}
knock() { attack knock $b ca/ca.crt "$1/host.crt" "$1/host.key" "${@:2}"; }

two_hosts
host a -q volume create v --size 64M
head -c 4M /dev/urandom >data
qemu-img convert -n -f raw -O raw data "$(host_uri a v)"
host a -q snap create v@1
host a -q peer add b $b
send v@1 b || fail "the first send: $(cat words)"
for side in c r; do "$VSTORECTL" pki issue ca $side $side 2>/dev/null; done
"$VSTORECTL" pki revoke ca r --yes 2>/dev/null
cp ca/ca.crl b/tls/ca.crl
"$VSTORECTL" pki init twin --cluster site 2>/dev/null
"$VSTORECTL" pki issue twin x x 2>/dev/null
sign old URI:vstore://site/x -1
sign elsewhere URI:vstore://other/x 30
sign nameless DNS:x 30
soon grep -q tls.changed log || fail "the list of who is revoked was not taken"

# Each takes a while: they go on beside the others.
attack drip $b >drip.words 2>&1 &
drip=$!
attack mute $b ca/ca.crt c/host.crt c/host.key >mute.words 2>&1 &
mute=$!
shut_out 'TLS with the peer failed: .*(issuer|self-signed|signature)' knock x
shut_out 'TLS with the peer failed: certificate has expired' knock old
shut_out 'TLS with the peer failed: certificate revoked' knock r
shut_out "The peer belongs to the cluster 'other', we to 'site'" knock elsewhere
shut_out "The peer's certificate names no host" knock nameless
shut_out "a certificate of this very host, 'b'" knock b/tls
shut_out 'TLS with the peer failed: unsupported protocol' knock c tls1.2
shut_out 'TLS with the peer failed: (wrong version number|http request|packet length|record layer)' attack plain $b
shut_out 'TLS with the peer failed: (length mismatch|bad extension|decode error|no ciphers|bad|unsupported)' attack garbage $b
# Where another host answers than was meant, nothing is sent to it.
host a -q peer add c $b
refused 6 'there is b' host a replica send v@1 c

# What was recorded of a transfer that was good is nothing when it is sent again.
mkfifo record.stop
attack record 10.77.0.1:7499 $b recorded <record.stop >record.words 2>&1 &
recorder=$!
exec 7>record.stop
soon grep -q there record.words || fail "nobody records: $(cat record.words)"
host a -q peer add b 10.77.0.1:7499
head -c 1M /dev/urandom >changed
qio a v 'write -s changed 0 1M'
host a -q snap create v@2
send v@2 b || fail "a send over who records: $(cat words)"
exec 7>&-
wait $recorder
received=$(grep -c replica.received log)
shut_out 'TLS with the peer failed: (decryption failed or )?bad record mac' attack replay $b recorded
[ "$(grep -c replica.received log)" = "$received" ] || fail "a replay was taken"

# A peer whose certificate is good, for copies of its own.
uuid=$(host a -o json volume list | python3 -c "import json,sys; print(json.load(sys.stdin)['volumes'][0]['uuid'])")
attack foreign $b ca/ca.crt c/host.crt c/host.key "$uuid" >foreign.words 2>&1 || fail "the foreign peer: $(cat foreign.words)"
for type in 5 16 18 19; do
	soon said "host=c .*type $type that makes no sense" || fail "b does not say that c's message of type $type made no sense: $(cat foreign.words)"
done
said 'refused host=c ' 5 || fail "b refused c $(grep -c 'refused host=c ' log) times"
grep -q "'c/v' cannot follow now: it is not here yet" foreign.words || fail "c is not told that it has no copy: $(cat foreign.words)"
[ "$(grep -c "domain of 'c/v' was not handed" foreign.words)" = 1 ] || fail "c is not told that it handed over no domain: $(cat foreign.words)"
[ "$(host b -o name snap list a/v | sort | tr '\n' ' ')" = 'a/v@1 a/v@2 ' ] || fail "c changed a's snapshots on b"
for snap in v@1 v@2; do same $snap; done

# One that is revoked while it lets us wait for its handshake has no connection by the certificates from before.
"$VSTORECTL" pki issue ca l l 2>/dev/null
mkfifo late.go
ip netns exec "$net-b" python3 "$here/refuse.py" late 10.77.0.2:7444 ca/ca.crt l/host.crt l/host.key <late.go >late.words 2>&1 &
late=$!
exec 8>late.go
soon grep -q listens late.words || fail "nobody listens: $(cat late.words)"
host a -q peer add l 10.77.0.2:7444
waiting=$(later v@1 l)
soon grep -q there late.words || fail "a does not connect: $(cat late.words)"
"$VSTORECTL" pki revoke ca l --yes 2>/dev/null
changed=$(grep -c tls.changed log)
cp ca/ca.crl a/tls/ca.crl
taken() { [ "$(grep -c tls.changed log)" -gt "$changed" ]; }
soon taken || fail "a does not take the list of who is revoked"
echo >&8
wait $late || fail "the late one: $(cat late.words)"
grep -q 'certificate of l is not good any more: certificate revoked' late.words || fail "who was revoked meanwhile is taken: $(cat late.words) $(job_of "$waiting" state)"
exec 8>&-

wait $drip || fail "who sends byte by byte: $(cat drip.words)"
wait $mute || fail "who says no HELLO: $(cat mute.words)"
soon said 'let us wait too long for its TLS handshake' || fail "b waited for a ClientHello"
soon said 'let us wait too long for its HELLO' || fail "b waited for HELLO"

# More than are let in without a word: the oldest go, and a peer comes in all the same.
host a -q peer add b $b
mkfifo crowd.stop
attack crowd $b 70 <crowd.stop >crowd.words 2>&1 &
crowd=$!
exec 7>crowd.stop
soon grep -q there crowd.words || fail "no crowd: $(cat crowd.words)"
soon said 'It made room for a newer one' 6 || fail "b lets a crowd in: $(grep peer.refused log | tail -n 3)"
host a -q snap create v@3
send v@3 b || fail "a crowd keeps a peer out: $(cat words)"
exec 7>&-
wait $crowd
same v@3
# Two slow ones, nine of bad handshakes, a's own where c was meant, a replay, five of c, and the crowd.
counted() { [ "$(refusals)" = $((2 + 9 + 1 + 1 + 5 + 70)) ]; }
soon counted || fail "b counts $(refusals) refusals"
both_whole
