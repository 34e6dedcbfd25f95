#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What is said of copies on other hosts, by replica status, status and /metrics: while all is well, while the other host is away, and when
# its clock is wrong. About 8 s.
# Usage: figures.sh VSTORED VSTORECTL CLOCK_SHIFT.SO
VSTORED=$1 VSTORECTL=$(realpath "$2") shift_so=$(realpath "$3") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"
requires curl

# figure NAME VOLUME: of the replica on b
figure() {
	curl -sS --unix-socket a/run/storage.sock http://vstore/metrics >metrics
	sed -n "s/^vstore_$1{volume=\"$2\",host=\"b\".*} //p" metrics
}
counter() {
	curl -sS --unix-socket a/run/storage.sock http://vstore/metrics | sed -n "s/^vstore_$1 //p"
}
of() { host a -o json replica status | python3 -c "import json,sys; print([r for r in json.load(sys.stdin)['replicas'] if r['volume'] == '$1'][0]['$2'])"; }
well() { [ "$(of s state)" = "in step" ] && [ "$(of f state)" = same ]; }
problem() { host a -o json status | grep -q "$1"; }

two_hosts
for volume in s f; do
	host a -q volume create $volume --size 16M
	qio a $volume 'write -P 5 0 4M'
done
host a -q peer add b 10.77.0.2:7410
host a -q replica add s b --mode sync --max-lag 1s
host a -q replica add f b --max-lag 1s
soon well || fail "b does not get near: $(host a -o json replica status)"
for volume in s f; do
	[ "$(of $volume copies)" = 2 ] || fail "$volume has $(of $volume copies) copies"
	[ "$(figure replica_known $volume)" = 1 ] || fail "b is not known to have $volume: $(cat metrics)"
	[ "$(figure replica_late $volume)" = 0 ] || fail "b is late with $volume: $(cat metrics)"
	[ "$(figure replica_lag_bytes $volume)" = 0 ] || fail "b lacks some of $volume: $(cat metrics)"
	[ "$(figure replica_cuts_total $volume)" -ge 1 ] || fail "no cut of $volume was counted"
	[ "$(figure replica_sent_bytes_total $volume)" -ge 1000 ] || fail "$(figure replica_sent_bytes_total $volume) bytes were sent of $volume"
done
[ "$(figure replica_in_step s)$(figure replica_in_step f)" = 10 ] || fail "who is in step: $(cat metrics)"
[ "$(counter repl_sends_total)" -ge 2 ] || fail "sends are not counted"
[ "$(of s oldest_unreplicated)" = "" ] || fail "something is said to be lost of s"
problem 'replica\|clock' && fail "a problem is seen where there is none: $(host a status)"

# b is away: each says so, and how much would be lost.
stop b -9
qio a f 'write -P 6 1M 2M'
qemu-io -f raw -t writeback -c 'write -P 6 1M 64k' "$(host_uri a s)" >/dev/null 2>&1 &
writer=$!
late() { [ "$(figure replica_late f)" = 1 ] && [ "$(figure replica_lag_bytes f)" -ge $((2 * 1024 * 1024)) ]; }
soon late || fail "the figures do not say that b is late: $(cat metrics)"
[ "$(of f copies)" = 1 ] || fail "a late copy counts"
[ "$(of f oldest_unreplicated)" != "" ] || fail "nobody is told how old what would be lost is"
soon problem 'replica of f on b is .* behind, and [0-9]* bytes would be lost' || fail "status is silent: $(host a status)"

# It comes back with a clock that is 20 s ahead: that is said (less what its greeting took to come), and nothing else is wrong with it.
export LD_PRELOAD=$shift_so CLOCK_SHIFT=20 ASAN_OPTIONS=verify_asan_link_order=0:${ASAN_OPTIONS:-}
ip netns exec "$net-b" "$VSTORED" --store b/store --run b/run --any-file-system --tls b/tls --listen 10.77.0.2:7410 2>>log &
pids[b]=$!
unset LD_PRELOAD CLOCK_SHIFT
soon well || fail "b does not get near again: $(host a -o json replica status)"
wait $writer || fail "the flush that waited for b failed"
soon problem 'clock of b is \(1[5-9]\|20\) s ahead' || fail "nobody is told that the clocks differ: $(host a status)"
ahead() { curl -sS --unix-socket a/run/storage.sock http://vstore/metrics | grep -qE '^vstore_peer_clock_ahead_seconds\{host="b"\} (1[5-9]|20)\.'; }
soon ahead || fail "no figure of b's clock"
problem 'replica of' && fail "a copy that is whole is said to be late"
both_whole
