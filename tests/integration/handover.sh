#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A planned restart (SIGUSR2): clients that cannot connect again write on through many of them, on the connections that they have. About 15 s.
# Usage: handover.sh VSTORED VSTORECTL STAMPS
cp "$1" "./vstored-handover.$$" # it is replaced by an upgrade below
VSTORED=./vstored-handover.$$ VSTORECTL=$(realpath "$2") stamps=$(realpath "$3")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
at_end+=("rm -f $VSTORED")
requires qemu-img python3
make_store --log-size 64M
start_vstored
for volume in a b c; do ctl volume create $volume --size 64M; done
restarts=0
restarted() { [ "$(grep -c vstored.handed_over log)" -gt "$restarts" ]; }
restart() {
	kill -USR2 "$pid"
	soon restarted || fail "vstored did not restart: $(tail -n 5 log)"
	restarts=$((restarts + 1))
}
# One with a lease, one without, one of QEMU's
expect 200 PUT /v1/volumes/a/attachment '{"holder": "11111111-2222-3333-4444-555555555555", "holder_name": "web1", "uid": 0}'
leased=$(python3 -c "import json, os; print(os.path.relpath(json.load(open('answer'))['object']['socket']))")
"$stamps" write "$leased" a a.known 1000 >a.said 2>&1 &
a=$!
"$stamps" write run/nbd/b.sock b b.known 1000 >b.said 2>&1 &
b=$!
qemu-img bench -w -f raw -t none -c 60000 -d 16 -s 4096 -S 8192 "$(uri c)" >c.said 2>&1 &
c=$!
writes() { api GET /metrics | awk '/^vstore_nbd_requests_total/ && $2 > 100 {found = 1} END {exit !found}'; }
soon writes || fail "nobody writes: $(grep nbd_requests answer)"
while kill -0 $a 2>/dev/null || kill -0 $b 2>/dev/null; do
	restart
	if [ $restarts = 2 ]; then # another file where the program was, as a package's upgrade leaves it
		cp "$VSTORED" "$VSTORED.new"
		mv "$VSTORED.new" "$VSTORED"
	fi
	sleep 0.2
done
wait $a || fail "a client with a lease: $(cat a.said)"
wait $b || fail "a client: $(cat b.said)"
wait $c || fail "QEMU's client: $(cat c.said)"
[ $restarts -ge 3 ] || fail "only $restarts restarts"
[ "$(readlink "/proc/$pid/exe")" = "$VSTORED" ] || fail "the old program runs on: $(readlink "/proc/$pid/exe")"
[ "$(grep -c 'nbd.attached' log)" -le 3 ] || fail "somebody connected again: $(grep nbd.attached log)"
if grep 'nbd.not_adopted\|no_handover' log; then fail "a connection was dropped"; fi
echo "$restarts restarts; a: $(cat a.said); b: $(cat b.said)"
"$stamps" verify "$leased" a a.known || fail "writes are lost"
"$stamps" verify run/nbd/b.sock b b.known || fail "writes are lost"

# Who connects meanwhile waits, and is served
kill -USR2 "$pid"
ctl_free=$(uri c)
reads "$ctl_free" 0 0 4k || qemu-img info "$ctl_free" >/dev/null || fail "a new client was refused"
soon restarted || fail "vstored did not restart"

# Who is asked to end while it restarts, ends
for pause in 0 0.01 0.02 0.04 0.08; do
	kill -USR2 "$pid"
	sleep $pause
	kill "$pid"
	rc=0
	wait "$pid" || rc=$?
	[ $rc = 0 ] || fail "told to end $pause s into a restart, vstored ends with $rc"
	start_vstored
done

# What another version leaves: its sockets are closed, no client waits for an answer of nobody
stop_vstored
program=$VSTORED
cat >other_version <<END
#!/usr/bin/env python3
import fcntl, os, socket, sys
ours, client = socket.socketpair()
if os.fork() == 0:
    ours.close()
    client.settimeout(60)
    open("heard", "w").write("%d" % len(client.recv(1)))
    os._exit(0)
client.close()
left = os.memfd_create("other", os.MFD_ALLOW_SEALING)
os.write(left, b"VSTGHER9" + bytes(20))
fcntl.fcntl(left, fcntl.F_ADD_SEALS, 15)
os.set_inheritable(left, True)
ours.set_inheritable(True)
os.environ["VSTORED_HANDOVER"] = str(left)
os.execv("$program", ["$program"] + sys.argv[1:])
END
chmod +x other_version
VSTORED=./other_version start_vstored
heard() { [ "$(cat heard 2>/dev/null)" = 0 ]; }
soon heard || fail "a socket that another version left stays open"
[ "$(grep -c 'not understood' log)" = 1 ] || fail "what another version left was taken"

# What is left of no restart is no reason not to start; one whose program is gone ends, and clients hear of it
stop_vstored
echo nonsense >nonsense
VSTORED_HANDOVER=9 start_vstored 9<nonsense
[ "$(grep -c 'not understood' log)" = 2 ] || fail "nonsense was taken for a handover"
"$stamps" write run/nbd/b.sock b b.known 100000 >b.said 2>&1 &
b=$!
mv "$VSTORED" "$VSTORED.gone"
kill -USR2 "$pid"
rc=0
wait "$pid" || rc=$?
pid=
mv "$VSTORED.gone" "$VSTORED"
[ $rc = 1 ] || fail "without its program vstored ends with $rc"
if wait $b; then fail "a client of nobody wrote on"; fi
start_vstored
"$stamps" verify run/nbd/b.sock b b.known || fail "writes are lost"
