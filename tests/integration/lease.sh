#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Leases and limits as NBD clients see them: one holder, named; a fence after which nothing of it lands; restarts; limits that count.
# Usage: lease.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires qemu-io python3 setpriv curl
[ "$(id -u)" = 0 ] || { echo "other users need root"; exit 77; }
chmod 755 . # so that only vstored's own folders keep others out
make_store --log-size 64M
start_vstored
# Sockets are named from here: a path of theirs may have 107 bytes
field() { python3 -c "import json; print(json.load(open('answer'))$1)"; }
attach() { expect "$1" PUT /v1/volumes/a/attachment "{\"holder\": \"$2$2$2$2$2$2$2$2-2222-3333-4444-555555555555\", \"holder_name\": \"web$2\", \"uid\": $3}"; }
at() { echo "nbd+unix:///a?socket=$1"; }
writes() { qemu-io -f raw -c "write -P $2 0 64k" -c flush "$1" >io 2>&1 && ! grep -qi 'fail\|error' io; }
holds() { reads "$(uri a)" "$1" 0 64k; }
ctl volume create a --size 64M

# Who writes without a lease keeps others from taking one; a lease keeps them from writing
writes "$(uri a)" 1 || fail "nobody has it, and it cannot be written: $(cat io)"
attach 200 1 70001
first=$(field '["object"]["socket"]')
first=${first#"$PWD/"}
writes "$(at "$first")" 2 || fail "the holder cannot write: $(cat io)"
if writes "$(uri a)" 3; then fail "somebody wrote beside the holder"; fi
holds 2 || fail "others may read it: $(cat io)"
attach 409 2 70002
[ "$(field '["error"]["holder"]')" = web1 ] || fail "the holder is not named: $(cat answer)"
attach 200 1 70001 # again, the same lease
[ "$(field '["object"]["generation"]')" = 1 ] || fail "the lease was taken anew"
ctl volume create b --size 1M
expect 409 PUT /v1/volumes/b/attachment '{"holder": "22222222-2222-3333-4444-555555555555", "holder_name": "web2", "uid": 70001}'
[ "$(field '["error"]["holder"]')" = web1 ] || fail "two holders share a user: $(cat answer)"

# Its user may open it, nobody else
# curl's 7: it could not connect; who can is told something that is no HTTP
opens() {
	local rc=0
	setpriv --reuid "$1" --regid "$1" --clear-groups curl -s --max-time 5 --unix-socket "$first" http://x/ >/dev/null 2>&1 || rc=$?
	[ $rc != 7 ]
}
opens 70001 || fail "the holder's user cannot open its socket"
if opens 70002; then fail "another holder's user opened it"; fi
if setpriv --reuid 70002 --regid 70002 --clear-groups ls "$(dirname "$first")" 2>/dev/null; then fail "another user looked into the folder"; fi

# A restart, clean or not, changes nothing
for how in stop_vstored kill_vstored; do
	$how
	start_vstored
	writes "$(at "$first")" 4 || fail "the holder cannot write after $how: $(cat io)"
	opens 70001 || fail "the holder's user was forgotten by $how"
	attach 409 2 70002
done

# The holder writes on and on, and is fenced in the middle of it: it gets an error, and nothing of it lands afterwards
python3 - "$first" <<'PY' &
import subprocess, sys
commands = "".join(f"aio_write -P {n % 200 + 1} {n % 16 * 64}k 64k\n" for n in range(100000))
done = subprocess.run(["qemu-io", "-f", "raw", "nbd+unix:///a?socket=" + sys.argv[1]], input=commands, text=True, capture_output=True)
open("holder.said", "w").write(done.stdout + done.stderr)
PY
holder=$!
written() { api GET /metrics | awk '/^vstore_written_bytes_total/ {print $2}'; }
start_bytes=$(written)
moves() { [ "$(written)" -gt "$((start_bytes + 10000000))" ]; }
soon moves || fail "the holder does not write"
refused 2 'volume fence a|--yes' ctl volume fence a
ctl --yes volume fence a
refused 3 'Nobody has a lease' ctl --yes volume fence a
qemu-io -r -f raw -c 'read -v 0 1M' "$(uri a)" >seen.before
after=$(written)
wait "$holder"
grep -qi 'fail\|error' holder.said || fail "the holder saw no error: $(tail -n 3 holder.said)"
qemu-io -r -f raw -c 'read -v 0 1M' "$(uri a)" >seen.after
cmp <(grep '^0' seen.before) <(grep '^0' seen.after) || fail "something landed after the fence"
[ "$(written)" = "$after" ] || fail "$(($(written) - after)) bytes were taken after the fence"
[ ! -e "$first" ] || fail "the fenced socket is there"
attach 200 2 70002
[ "$(field '["object"]["generation"]')" = 2 ] || fail "the next lease has an old generation: $(cat answer)"
if writes "$(at "$first")" 9; then fail "the fenced holder found its way back"; fi
next=$(field '["object"]["socket"]')
writes "$(at "${next#"$PWD/"}")" 10 || fail "the next holder cannot write: $(cat io)"
kill_vstored
start_vstored
attach 409 1 70001
[ "$(field '["error"]["holder"]')" = web2 ] || fail "the fenced holder is back: $(cat answer)"

# Limits: durable, at once for who is attached, counted
metric() { api GET /metrics | awk -v name="$1" 'index($1, name) == 1 {print int($2 * 1000)}'; }
[ -z "$(metric 'vstore_volume_throttled_seconds_total{volume="b"}')" ] || fail "b has no limits, and a figure of them"
ctl volume set b iops=20
ctl volume set b burst=1s
stop_vstored
start_vstored
# 60 requests at 20 a second with a burst of 20: by vstored's own clock some wait
printf 'aio_read 0 4k\n%.0s' $(seq 60) | qemu-io -f raw "$(uri b)" >io
grep -qi 'fail\|error' io && fail "a limit is no error: $(cat io)"
[ "$(metric 'vstore_volume_throttled_requests_total{volume="b"}')" -gt 0 ] || fail "nothing waited"
[ "$(metric 'vstore_volume_throttled_seconds_total{volume="b"}')" -gt 1000 ] || fail "40 requests too many waited $(metric 'vstore_volume_throttled_seconds_total{volume="b"}') ms"
ctl volume set b iops=0
[ -z "$(metric 'vstore_volume_throttled_requests_total{volume="b"}')" ] || fail "b has limits still"
refused 2 'no number' ctl volume set b iops=many
refused 2 'hour' ctl volume set b burst=2h
