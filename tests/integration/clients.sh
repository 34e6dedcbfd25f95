#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Clients on bad days: wrong names and sizes, a quota, one that vanishes in mid-request and comes back, a thousand that do nothing, and
# users who may not. About 5 s. Usage: clients.sh VSTORED VSTORECTL STAMPS
VSTORED=$1 VSTORECTL=$(realpath "$2") stamps=$(realpath "$3")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires curl python3 setpriv nbdinfo
chmod 755 .
make_store --log-size 16M
start_vstored
create() { api POST /v1/volumes "{\"name\": \"$1\", \"size_bytes\": $2}" >/dev/null; }
says() { grep -qE "$1" answer || fail "no '$1' in: $(cat answer)"; }
create a 268435456
create a 4096; says 'already|exists'
create b 0; says '[Ss]ize'
create b 5000; says '4 KiB|4096'
create b 1125899906842624; says 'TiB|at most|larg'
create '../b' 4096; says 'name'
create "$(printf 'x%.0s' {1..64})" 4096; says 'name'
refused 3 "no volume.*nobody" ctl volume show nobody
refused 3 "no (snapshot|volume)" ctl volume clone a@nothing c
nbdinfo "nbd+unix:///nobody?socket=$work/run/nbd.sock" >data 2>words && fail "an unknown export is served"
grep -qi 'nobody\|unknown\|not' words || fail "no words about an unknown export: $(cat words)"
[ "$(ctl -o name volume list)" = a ] || fail "a refused volume is there"

# A quota is said at the write, and lifting it is enough.
ctl -q volume create q --size 64M --quota 4M
rc=0; "$stamps" write run/nbd/q.sock q known.q || rc=$?
[ $rc = 2 ] || fail "a write beyond the quota ends with $rc"
"$stamps" verify run/nbd/q.sock q known.q
ctl -q volume set q quota=0
"$stamps" write run/nbd/q.sock q known.q 8 || fail "a lifted quota still holds"

# A writer dies with requests under way, another takes over: what was answered to either is there.
for _ in 1 2 3; do
	"$stamps" write run/nbd/a.sock a known.lost & writer=$!
	sleep 0.3
	kill -9 $writer
	wait $writer 2>/dev/null || true
	rm -f known known.lost
	python3 - run/nbd/a.sock <<'PY'
import socket, struct, sys
# half a write: the header promises 1 MiB, 100 bytes come
s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1])
s.recv(18, socket.MSG_WAITALL); s.sendall(struct.pack(">I", 3))
s.sendall(b"IHAVEOPT" + struct.pack(">II", 1, 1) + b"a"); s.recv(10, socket.MSG_WAITALL)
s.sendall(struct.pack(">IHHQQI", 0x25609513, 0, 1, 7, 0, 1 << 20) + b"x" * 100)
PY
done
ctl -q snap create a@base
"$stamps" write run/nbd/q.sock q known.q 8
"$stamps" verify run/nbd/q.sock q known.q
ctl -q volume verify a || fail "a vanished client damaged a volume"
nobody_has_a() { [ "$(ctl -o csv --no-header -c ATTACHED volume list --filter name=a)" = 0 ]; }
soon nobody_has_a || fail "clients that are gone have a still"

# A thousand idle connections, half of them in the handshake: others are served meanwhile, and memory stays.
python3 - run/nbd/q.sock ready <<'PY' &
import resource, signal, socket, struct, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
all = []
for i in range(1000):
    s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); all.append(s)
    s.recv(18, socket.MSG_WAITALL)
    if i % 2:
        s.sendall(struct.pack(">I", 3) + b"IHAVEOPT" + struct.pack(">II", 1, 1) + b"q"); s.recv(10, socket.MSG_WAITALL)
open(sys.argv[2], "w").close()
signal.pause() # it is killed
PY
crowd=$!
at_end+=("kill $crowd")
soon test -e ready || fail "a thousand connections do not come about"
"$stamps" write run/nbd/q.sock q known.q 8 || fail "idle connections keep others from writing"
"$stamps" verify run/nbd/q.sock q known.q
kb=$(awk '/VmRSS/ {print $2}' "/proc/$pid/status")
[ "$kb" -lt 700000 ] || fail "vstored takes $kb KiB with a thousand idle connections"
kill $crowd
unset 'at_end[-1]'
soon sh -c "curl -sS --unix-socket run/storage.sock http://v/metrics | grep -qx 'vstore_nbd_connections 0'" || fail "connections stay when their clients are gone"

# Somebody else's user: neither control nor data
user=(setpriv --reuid=65534 --regid=65534 --clear-groups)
"${user[@]}" curl -sS --max-time 5 --unix-socket run/storage.sock http://v/v1/status >data 2>&1 && fail "anybody may control: $(cat data)"
"${user[@]}" nbdinfo "$(uri q)" >data 2>&1 && fail "anybody may read a volume"
grep -qi denied data || fail "that is not for lack of rights: $(cat data)"
cp "$VSTORECTL" vstorectl
refused 6 'may not use the socket.*root or in its group' "${user[@]}" ./vstorectl --host "unix:$work/run/storage.sock" status
stop_vstored
"$VSTORED" --check --store store --any-file-system >check.out || fail "check: $(tail -n 5 check.out)"
