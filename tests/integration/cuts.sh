#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real image goes to another host through a proxy that cuts the connection at random bytes, anywhere, TLS's handshake too: with all that
# was sent twice, little more goes over than without a cut. About 20 s with the small image and 8 cuts; --soak makes 50 with the large one.
# Usage: cuts.sh VSTORED VSTORECTL MAKE-IMAGE small|large CUTS [SEED]
VSTORED=$1 VSTORECTL=$(realpath "$2") make=$(realpath "$3") kind=$4 cuts=$5 seed=${6:-$RANDOM} here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"
requires mmdebstrap mke2fs
window=$((4 << 20)) # what may be under way when a connection is cut

report() { python3 -c "import json; print(json.load(open('report'))['$1'])"; }
# proxy CUTS TOTAL: in front of b, until proxy_end
proxy() {
	rm -f report
	ip netns exec "$net-b" python3 "$here/cuts.py" 10.77.0.2:7411 10.77.0.2:7410 "$1" "$2" "$seed" report 2>>log &
	proxy_pid=$!
	soon [ -e report ] || fail "the proxy does not start"
}
proxy_end() {
	[ -z "$proxy_pid" ] || { kill "$proxy_pid" && wait "$proxy_pid" 2>/dev/null || true; }
	proxy_pid=
}
proxy_pid=
at_end+=(proxy_end)
# through: `bytes` is what has gone through the proxy, when the last connection has ended
through() {
	soon ended || fail "the connection does not end"
	bytes=$(report bytes)
}
ended() { [ "$(ip netns exec "$net-b" ss -Htn state established '( sport = :7411 )' | wc -l)" = 0 ] && sleep 0.2; }

image=$("$make" "${VSTORE_IMAGES:-/var/tmp/vstore-images}" "$kind") || fail "no image: $image"
two_hosts
host a -q volume import "$image" v --format raw >/dev/null 2>&1 || fail "the image does not go in"
host a -q snap create v@1
host a -q peer add b 10.77.0.2:7411

# Without a cut.
proxy 0 0
send v@1 b || fail "the send without a cut: $(cat words)"
through
whole=$bytes
proxy_end
stop b -TERM
rm -r b/store b/run
mkdir b/store
"$VSTORED" --init --store b/store --any-file-system --log-size 32M >/dev/null
serve b 10.77.0.2

# With cuts: one send goes on by itself where it was cut, each time. Only a cut of its first handshake is its end.
proxy "$cuts" "$whole"
send v@1 b || send v@1 b || fail "a send does not go on by itself: $(cat words)"
through
echo "seed $seed: $(report cuts) cuts, $(report connections) connections, $bytes bytes for $whole: $((bytes - whole)) more, $(((bytes - whole) / cuts)) a cut"
[ "$(report cuts)" = "$cuts" ] || fail "only $(report cuts) cuts were made"
[ "$bytes" -le $((whole * 102 / 100 + cuts * window)) ] || fail "$bytes bytes went over for $whole with $cuts cuts (seed $seed)"
[ "$(host a volume verify v@1 >/dev/null 2>&1; echo $?)" = 0 ] || fail "the original is not sound"
host b volume verify a/v@1 >/dev/null 2>&1 || fail "the copy is not sound"
[ "$kind" = large ] || same v@1
both_whole
