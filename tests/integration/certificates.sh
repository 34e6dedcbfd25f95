#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The site's certificates over the years: files that come one after the other, in whatever order; another host's by mistake; one that is about
# to expire, and one that has; and a site whose CA is below another one. About 15 s.
# Usage: certificates.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"
requires openssl curl

pki() { "$VSTORECTL" pki "$@" 2>/dev/null; }
# told EVENT COUNT: the two logs have it so often
told() { [ "$(grep -c "^$1 " log)" -ge "$2" ]; }
times() { grep -c "^$1 " log || true; }
expires() { curl -sS --unix-socket "$1/run/storage.sock" http://v/metrics | sed -n 's/^vstore_certificate_expires_timestamp_seconds //p'; }
of_file() { date -d "$(openssl x509 -noout -enddate -in "$1" | cut -d= -f2)" +%s; }
# sign CA-FOLDER FOLDER HOST DAYS: a certificate that vstorectl would not make
sign() {
	mkdir -p "$2"
	openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/O=site/CN=$3" -keyout "$2/host.key" -out csr 2>/dev/null
	openssl x509 -req -in csr -CA "$1/ca.crt" -CAkey "$1/ca.key" -set_serial "0x$(openssl rand -hex 8)" -days "$4" \
		-extfile <(echo "subjectAltName=URI:vstore://site/$3") -out "$2/host.crt" 2>words || fail "no certificate: $(cat words)"
}

two_hosts
host a -q volume create v --size 8M
qio a v 'write -P 1 0 1M'
host a -q snap create v@1
host a -q peer add b 10.77.0.2:7410
send v@1 b || fail "the first send: $(cat words)"
[ "$(expires a)" = "$(of_file a/tls/host.crt)" ] || fail "a says that its certificate expires at $(expires a)"
host a status | grep -q 'Nothing is wrong' || fail "something is wrong: $(host a status)"

# The certificate comes before its key, and is of no use until that is there.
pki issue ca a new --days 20
kept=$(times tls.kept) changed=$(times tls.changed)
cp new/host.crt a/tls/
soon told tls.kept $((kept + 1)) || fail "half of a new certificate was taken"
cp new/host.key a/tls/
soon told tls.changed $((changed + 1)) || fail "the other half was not noticed: $(grep tls log)"
[ "$(expires a)" = "$(of_file new/host.crt)" ] || fail "a says that its new certificate expires at $(expires a)"
host a status | grep -q 'certificate of this host expires in 19 days' || fail "nobody says that 20 days are left: $(host a status)"
host a -q snap create v@2
send v@2 b || fail "with the new certificate: $(cat words)"

# Another host's.
pki issue ca c c
kept=$(times tls.kept)
cp c/* a/tls/
soon told tls.kept $((kept + 1)) || fail "a takes the certificate of c"
grep -q 'tls.kept reason="host.crt is of c in site, and this is a in site' log || fail "why it is not taken: $(grep tls.kept log)"
changed=$(times tls.changed)
pki rotate ca a a/tls
soon told tls.changed $((changed + 1)) || fail "a's own was not taken any more"

# One that has expired is not taken; and a host that has no other starts with it, as guests need it.
sign ca old a -1
kept=$(times tls.kept)
cp old/host.crt old/host.key a/tls/
soon grep -q 'tls.kept reason="host.crt has expired' log || fail "one that has expired is taken: $(grep tls log)"
stop a -TERM
serve a 10.77.0.1
grep -q '^tls.expired host=a' log || fail "nothing is said at the start"
host a status | grep -q 'certificate of this host has expired' || fail "nobody says that it has expired: $(host a status)"
qio a v 'write -P 3 0 1M'
host a -q snap create v@3
refused 1 'expired' host a replica send v@3 b
changed=$(times tls.changed)
pki rotate ca a a/tls
soon told tls.changed $((changed + 1)) || fail "the new one was not taken"
send v@3 b || fail "after it had expired: $(cat words)"

# A CA that another one made: it is the site's, and what is above it is nobody's business.
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout corp.key -out corp.crt -days 900 -subj '/O=corp/CN=Corp CA' 2>/dev/null
openssl req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj '/O=site/CN=Site CA' -keyout site.key -out csr 2>/dev/null
openssl x509 -req -in csr -CA corp.crt -CAkey corp.key -set_serial 7 -days 800 -out site.crt \
	-extfile <(printf 'basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\nsubjectKeyIdentifier=hash\n') 2>words || fail "no CA: $(cat words)"
pki import ca2 site.crt site.key --cluster site || fail "the CA is not taken"
changed=$(times tls.changed)
for side in a b; do pki rotate ca2 $side $side/tls; done
soon told tls.changed $((changed + 2)) || fail "certificates of the other CA were not taken: $(grep tls log)"
qio a v 'write -P 4 0 1M'
host a -q snap create v@4
send v@4 b || fail "with a CA below another one: $(cat words)"
pki revoke ca2 a --yes
cp ca2/ca.crl b/tls/
host a -q snap create v@5
shut_out() { ! send v@5 b; }
soon shut_out || fail "the revocation by such a CA was not taken"
both_whole
