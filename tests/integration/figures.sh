#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What is said of copies on other hosts, by replica status, status and /metrics: while all is well, outside of hours, while the other host is
# away, when its clock is wrong, and of what a policy could not send, also hours later. About 20 s.
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
is() { [ "$(figure "$1" "$2")" = "$3" ]; }
# serve_ahead SECONDS SIDE ADDRESS: with a clock that is so far ahead
serve_ahead() {
	export LD_PRELOAD=$shift_so CLOCK_SHIFT=$1 ASAN_OPTIONS=verify_asan_link_order=0:${ASAN_OPTIONS:-}
	ip netns exec "$net-$2" "$VSTORED" --store "$2/store" --run "$2/run" --any-file-system --tls "$2/tls" --listen "$3:7410" 2>>log &
	pids[$2]=$!
	unset LD_PRELOAD CLOCK_SHIFT
}
# Hours that are not now, nor two hours later.
closed=$(date -d '+5 hours' +%H:00)-$(date -d '+7 hours' +%H:00)

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
# as_of VOLUME: of b's copy, by b; what is in step is as of now, what follows as of its last cut
as_of() {
	curl -sS --unix-socket b/run/storage.sock http://vstore/metrics | sed -n "s/^vstore_copy_as_of_seconds{volume=\"a.$1\",host=\"a\"} //p"
}
[ "$(as_of f)" = "$(date -d "$(host b -o json snap list a/f | python3 -c "import json,sys; print(json.load(sys.stdin)['snapshots'][-1]['created'])")" +%s)" ] ||
	fail "b's copy of f is as of $(as_of f): $(host b snap list a/f)"
before=$(as_of s)
later() { [ "$(as_of s)" -gt "$before" ]; }
soon later || fail "b's copy of s is as of $before still"
[ "$(counter repl_sends_total)" -ge 2 ] || fail "sends are not counted"
[ "$(of s oldest_unreplicated)" = "" ] || fail "something is said to be lost of s"
problem 'replica\|clock' && fail "a problem is seen where there is none: $(host a status)"

# Outside of its hours what was written is held, and that is no lateness; where nothing was written nothing is held.
[ "$(figure replica_held f)$(figure replica_held s)" = 00 ] || fail "something is held without hours: $(cat metrics)"
host a -q replica set f --to b --window "$closed"
[ "$(figure replica_held f)" = 0 ] || fail "it has all, and something is held: $(cat metrics)"
qio a f 'write -P 4 1M 64k'
soon is replica_held f 1 || fail "it is not told that it is held: $(cat metrics)"
sleep 2 # longer than --max-lag
[ "$(figure replica_held f)$(figure replica_late f)" = 10 ] || fail "outside of its hours it is late: $(cat metrics)"
[ "$(figure replica_lag_bytes f)" -ge 65536 ] || fail "what is held is not counted: $(cat metrics)"
problem 'replica of' && fail "that it is held is told as a problem: $(host a status)"
host a -q replica set f --to b --window always
soon well || fail "its hours began, and it does not get near: $(host a -o json replica status)"
[ "$(figure replica_held f)" = 0 ] || fail "its hours are now, and it is held: $(cat metrics)"

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
serve_ahead 20 b 10.77.0.2
soon well || fail "b does not get near again: $(host a -o json replica status)"
wait $writer || fail "the flush that waited for b failed"
soon problem 'clock of b is \(1[5-9]\|20\) s ahead' || fail "nobody is told that the clocks differ: $(host a status)"
ahead() { curl -sS --unix-socket a/run/storage.sock http://vstore/metrics | grep -qE '^vstore_peer_clock_ahead_seconds\{host="b"\} (1[5-9]|20)\.'; }
soon ahead || fail "no figure of b's clock"
problem 'replica of' && fail "a copy that is whole is said to be late"

# What a policy took and b has: nothing waits. With b away it waits; two hours later that is late, but for a policy that has hours.
host a -q volume create p --size 16M
host a -q policy set p --keep-last 9 --send-to b
host a -q policy attach p p
host a -q policy run p
sent() { [ "$(figure policy_unsent_snapshots p)$(figure policy_unsent_seconds p)$(figure policy_late p)" = 000 ]; }
soon sent || fail "all is there, and something waits: $(cat metrics)"
stop b -TERM
for _ in 1 2; do
	sleep 1.1 # their names differ by the second
	host a -q policy run p
done
soon is policy_unsent_snapshots p 2 || fail "two wait: $(cat metrics)"
[ "$(figure policy_unsent_seconds p)" -le 600 ] || fail "they were taken just now: $(cat metrics)"
[ "$(figure policy_late p)" = 0 ] || fail "what waits since now is late: $(cat metrics)"
host a -q policy set p --keep-last 9 --send-to b --window "$closed"
stop a -TERM
serve_ahead 7200 a 10.77.0.1
soon is policy_unsent_snapshots p 2 || fail "after a restart two wait: $(cat metrics)"
# What b has of f nobody has asked since: that is not nothing that would be lost.
[ "$(of f state) $(of f lag_bytes) $(of f lag_seconds)" = 'unknown None None' ] || fail "what is not known is told as a figure: $(host a -o json replica status)"
[ -z "$(host a -o csv --no-header -c LOST_NOW --filter VOLUME=f replica status)" ] || fail "what is not known is shown as a figure: $(host a replica status)"
is replica_lag_bytes f NaN || fail "what is not known is a figure: $(cat metrics)"
seconds=$(figure policy_unsent_seconds p)
((seconds >= 7200 && seconds < 7800)) || fail "they wait for two hours, not $seconds s"
[ "$(figure policy_late p)" = 0 ] || fail "it has hours, and is late after two of them: $(cat metrics)"
problem 'snapshots of the policy' && fail "a policy that has hours is told as a problem: $(host a status)"
host a -q policy set p --keep-last 9 --send-to b
soon is policy_late p 1 || fail "what waits for two hours is not late: $(cat metrics)"
soon problem 'p has 2 snapshots of the policy p that are not on b; the oldest waits for 7[2-7][0-9][0-9] s' || fail "status is silent: $(host a status)"
serve b 10.77.0.2
soon sent || fail "b is back, and something waits: $(cat metrics)"
problem 'snapshots of the policy' && fail "all was sent, and that is told as a problem: $(host a status)"
both_whole
