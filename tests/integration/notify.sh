#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What systemd is told (Type=notify), by a socket in its place: READY when vstored serves and not before, RELOADING and READY around a planned
# restart, STOPPING at the end; nothing by a start that is refused. Without anybody who listens it serves as well. About 3 s.
# Usage: notify.sh VSTORED
VSTORED=$1
here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
requires curl python3
make_store --log-size 16M

manager=
at_end+=(manager_end)
manager_end() { [ -z "$manager" ] || kill "$manager"; }
# listen SOCKET: what is told from here on goes there
listen() {
	manager_end
	rm -f told # what the one before said does not say that this one listens
	python3 "$here/manager.py" "$1" run/storage.sock >told &
	manager=$!
	soon grep -qs listens told || fail "nobody listens on $1"
	export NOTIFY_SOCKET=$1
}
told() { [ "$(tail -n +2 told | tr '\n' ' ')" = "$1" ]; }
is_told() { soon told "$1" || fail "told was: $(cat told), not $1"; }

listen "$work/manager"
start_vstored
is_told 'READY=1 '
kill -USR2 "$pid"
is_told 'READY=1 RELOADING=1 READY=1 '
rc=0; timeout 20 "$VSTORED" --store store --run run --any-file-system 2>words || rc=$?
[ $rc = 5 ] || fail "a second vstored exits $rc: $(cat words)"
stop_vstored
is_told 'READY=1 RELOADING=1 READY=1 STOPPING=1 '

listen "@vstore-test-$$" # without a file
start_vstored
is_told 'READY=1 '
stop_vstored

export NOTIFY_SOCKET=$work/nobody
start_vstored
expect 200 GET /v1/status
grep -q 'systemd.not_told.*READY' log || fail "nobody was told that nobody listens"
