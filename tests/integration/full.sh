#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A full disk: ENOSPC comes before an answer, never after; deleting and purging help; warnings come first. The disk is a small file
# system of KIND, or for KIND "capacity" a bound of the store's own. About 8 s. Usage: full.sh VSTORED VSTORECTL STAMPS KIND
VSTORED=$1 VSTORECTL=$(realpath "$2") stamps=$(realpath "$3") kind=$4
OWN_MOUNTS=1
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires curl
stamps() { "$stamps" "$1" "run/nbd/$2.sock" "$2" "known.$2" ${3:+"$3"}; }
options=()
case $kind in
capacity) mkdir disk && options=(--capacity 250M) ;;
*) file_system "$kind" 500M disk ;;
esac
mkdir disk/store
ln -s disk/store store
make_store --log-size 16M
start_vstored "${options[@]}"
ctl -q volume create a --size 1G
ctl -q volume create b --size 1G
stamps write a 60
rc=0; stamps write b || rc=$?
[ $rc = 2 ] || fail "writing more than there is ends with $rc, not with 'no space'"
stamps verify a && stamps verify b || fail "an answered write is lost when full"
soon grep -q store.filling log || fail "nothing was said of 80 or 90 percent"
ctl status >screen
grep -qE '^! .*(full|space)' screen || fail "status does not say that the store is full: $(cat screen)"
ctl -o json api GET /v1/status | grep -qiE 'purge|delete|space' || fail "status has no advice"

# A full store goes on serving, survives its death, and checks clean.
kill_vstored
start_vstored "${options[@]}"
stamps verify a && stamps verify b || fail "an answered write is lost by kill -9 when full"
stop_vstored
"$VSTORED" --check --store store --any-file-system >check.out || fail "check: $(tail -n 5 check.out)"
start_vstored "${options[@]}"

# Somebody else takes the rest of the disk in the middle of folds and checkpoints; what is there stays, and goes on when he leaves.
if [ "$kind" != capacity ]; then
	dd if=/dev/zero of=disk/foreign bs=64k status=none 2>/dev/null || true
	api POST /v1/store/fold >/dev/null
	rc=0; stamps write a 1 || rc=$?
	[ $rc = 0 ] || [ $rc = 2 ] || fail "a write on a full disk ends with $rc"
	stamps verify a && stamps verify b || fail "an answered write is lost by a foreign file"
	kill_vstored
	start_vstored || fail "a store does not open on a full disk: $(tail -n 3 log)"
	stamps verify a && stamps verify b || fail "an answered write is lost by a restart on a full disk"
	rm disk/foreign
fi

# Deleting, purging and collecting help.
ctl -q volume delete b --yes
id=$(ctl -o csv --no-header -c ID trash list)
ctl -q trash purge "$id" --yes
ctl -q store gc
stamps write a 60 || fail "there is no room after purging"
stamps verify a || fail "an answered write is lost after purging"
stop_vstored
"$VSTORED" --check --store store --any-file-system >check.out || fail "check: $(tail -n 5 check.out)"
