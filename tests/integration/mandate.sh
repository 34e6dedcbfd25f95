#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A primary that was stopped while its volume was taken over answers nothing when it goes on, reads included: neither what was asked before,
# nor what is asked then; nor does it after a restart, planned or not.
# While the host in step is only away, its clients are answered.
# About 30 s, most of it waiting for mandates to pass.
# Usage: mandate.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

in_step() { [ "$(field state)" = "in step" ]; }
serving() { host a -o json volume show v | python3 -c 'import json,sys; sys.exit(json.load(sys.stdin)["serving"] is not True)'; }
not_serving() { ! serving; }
# Without the flush at its end, which waits for b.
rio() { qemu-io -r -f raw -c "$1" "$(host_uri a v)" >answer.read || fail "a read of a fails: $(cat answer.read)"; }
# ask WHAT: a command to a's volume that must not be answered; its pid is in `asked`
asked=()
ask() {
	qemu-io -f raw -c "$1" "$(host_uri a v)" >"answer.${#asked[@]}" 2>&1 &
	asked+=($!)
}
silent() {
	local p
	for p in "${asked[@]}"; do
		kill -0 "$p" 2>/dev/null || fail "a was answered $1: $(cat answer.*)"
	done
}

two_hosts
host a -q volume create v --size 64M
host a -q peer add b 10.77.0.2:7410
host a -q replica add v b --mode sync
soon in_step || fail "b does not get in step: $(host a -o json replica status)"
soon serving || fail "a does not serve its volume with b in step"
qio a v 'write -P 1 0 8M'

# b is away: it says nothing against a, which goes on, also from a start; its flushes wait (sync.sh).
stop b -9
stop a -TERM
serve a 10.77.0.1
soon serving || fail "a does not serve while b is away"
rio 'read -P 1 0 64k'
# b is there, and stands still: a goes on as well, before b's word passes.
serve b 10.77.0.2
soon in_step || fail "b does not get in step again"
kill -STOP "${pids[b]}"
# Asked in vain, or, where it was not connected with yet again, connected to in vain.
absent() { tail -c "+$seen" log | grep -qE 'peer.disconnected.*host=b.*(does not answer|wait too long)'; }
seen=$(wc -c <log)
soon absent || fail "a does not see that b stands still"
serving || fail "a does not serve while b stands still"
rio 'read -P 1 0 64k'
kill -CONT "${pids[b]}"
soon in_step || fail "b does not get in step after it stood still"

# A second reader reads all the time while a is stopped; b takes the volume over.
cat >reader.py <<'PY'
import socket, struct, sys, time
# One block after the other, at most ten ms apart: each answer is a line "asked answered", on the one clock of this machine.
path, volume = sys.argv[1:3]
s = socket.socket(socket.AF_UNIX)
s.connect(path)
def take(n):
    b = b''
    while len(b) < n:
        part = s.recv(n - len(b))
        if not part:
            sys.exit(0)
        b += part
    return b
take(18)
s.sendall(struct.pack('>I', 3) + b'IHAVEOPT' + struct.pack('>II', 1, len(volume)) + volume.encode())
take(10)
n = 0
while True:
    n += 1
    asked = time.monotonic_ns()
    s.sendall(struct.pack('>IHHQQI', 0x25609513, 0, 0, n, 0, 4096))
    take(16 + 4096)
    print(asked, time.monotonic_ns(), flush=True)
    time.sleep(0.01)
PY
python3 reader.py a/run/nbd/v.sock v >reads &
reader=$!
end_reader() { kill $reader 2>/dev/null; }
at_end+=(end_reader)
read_some() { [ "$(wc -l <reads)" -gt 20 ]; }
soon read_some || fail "the reader reads nothing"
kill -STOP "${pids[a]}"
host b -q replica promote a/v --yes --accept-loss
promoted=$(python3 -c 'import time; print(time.monotonic_ns())')
qio b v 'write -P 2 0 1M'
ask 'read 0 64k' # it lies in the socket when a goes on
ask 'write -P 9 32M 64k'
kill -CONT "${pids[a]}"
sleep 1
ask 'read 1M 64k'
soon fenced || fail "a is not told that b has the volume: $(host a -o json replica status)"
sleep 2
silent "after b took the volume over"
awk -v at="$promoted" '$1 > at || $2 > at {exit 1}' reads || fail "a answered a read after b took the volume over: $(tail -n 2 reads), promoted at $promoted"
not_serving || fail "a says that it serves what b serves"

# Who holds answers back can end, and restart; a started one asks b first, and remembers what it was told.
end_reader || true
kill -USR2 "${pids[a]}"
soon host a -q volume list || fail "a does not come back from a planned restart while it holds answers back"
asked=()
ask 'read 0 64k'
told() { tail -c "+$seen" log | grep -q 'mandate.refused'; }
seen=$(wc -c <log)
ended() { ! kill -0 "${pids[a]}" 2>/dev/null; }
kill -TERM "${pids[a]}"
soon ended || { kill -9 "${pids[a]}"; fail "a does not end while it holds answers back"; }
wait "${pids[a]}" || fail "a, stopped while it held answers back, ended with $?"
serve a 10.77.0.1
soon told || fail "b does not say that it has the volume"
asked=()
ask 'read 0 64k'
sleep 1
silent "after its restart"
stop b -9
sleep 3
silent "after its restart, b being away"
serve b 10.77.0.2
there=$(export_of b v)
host a -q replica remove v b
! wait "${asked[0]}" || fail "a read that was asked of what b serves was answered: $(cat answer.0)"
rio 'read 0 64k' # who comes now means what is here
[ "$(export_of b v)" = "$there" ] || fail "a changed what b serves"
both_whole
