#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For tests that drive vstored: a folder of their own, a daemon, and an end to both. Source it, with VSTORED set.
# With OWN_MOUNTS set: in a mount namespace, since another test's would keep what is mounted here, and the loop device below it, busy.
set -eu
if [ -n "${OWN_MOUNTS:-}" ] && [ -z "${VSTORE_TEST_MOUNTS:-}" ] && unshare --mount true 2>/dev/null; then
	export VSTORE_TEST_MOUNTS=1
	exec unshare --mount --propagation private -- bash "$0" "$@"
fi

VSTORED=$(realpath "${VSTORED:?}")
# shellcheck source=tests/lib.sh
. "$(dirname "${BASH_SOURCE[0]}")/../lib.sh"
work=$(mktemp -d ./vstored-test.XXXXXX)
cd "$work"
work=$PWD
pid=
at_end=() # commands, the last one first

finish() {
	local rc=$? i
	[ -n "$pid" ] && kill "$pid" 2>/dev/null && wait "$pid"
	[ $rc -eq 0 ] || [ $rc -eq 77 ] || [ ! -e log ] || tail -n 30 log
	cd "$work/.."
	for ((i = ${#at_end[@]} - 1; i >= 0; i--)); do ${at_end[i]} || true; done
	rm -rf "$work"
	exit $rc
}
trap finish EXIT

make_store() { "$VSTORED" --init --store store --any-file-system "$@" >/dev/null; }

start_vstored() {
	"$VSTORED" --store store --run run --any-file-system "$@" 2>>log &
	pid=$!
	for _ in $(seq 1200); do
		[ -S run/storage.sock ] && api GET /v1/status >/dev/null 2>&1 && return
		kill -0 "$pid" 2>/dev/null || { wait "$pid"; return $?; }
		sleep 0.05
	done
	fail "vstored does not answer"
}

stop_vstored() {
	local old=$pid
	pid=
	kill "$old"
	wait "$old"
}

kill_vstored() {
	local old=$pid
	pid=
	kill -9 "$old"
	wait "$old" 2>/dev/null || true
}

# api METHOD PATH [JSON]: prints the answer; the status is in the file `status`
api() {
	curl -sS --max-time 120 --unix-socket run/storage.sock -o answer -w '%{http_code}' -X "$1" ${3:+-d "$3"} "http://vstored$2" >status || return 1
	cat answer
}

# expect STATUS METHOD PATH [JSON]
expect() {
	local want=$1
	shift
	api "$@" >/dev/null
	[ "$(cat status)" = "$want" ] || fail "$* was answered with $(cat status), not $want: $(cat answer)"
}

# reads URI PATTERN OFFSET LENGTH: all of it is that byte
reads() { qemu-io -r -f raw -c "read -P $2 $3 $4" "$1" >io 2>&1 && ! grep -qi 'fail\|error' io; }

uri() { echo "nbd+unix:///$1?socket=$work/run/nbd/${1%%@*}.sock"; }

# With VSTORECTL set: vstorectl against this daemon
ctl() { "$VSTORECTL" --host "unix:$work/run/storage.sock" "$@" </dev/null; }

# refused EXIT PATTERN COMMAND...: it ends with this code, and says why in one sentence that matches
refused() {
	local want=$1 pattern=$2 rc=0
	shift 2
	"$@" >data 2>words </dev/null || rc=$?
	[ "$rc" = "$want" ] || fail "$* exits $rc, not $want: $(cat data words)"
	grep -qE -e "$pattern" words || fail "$* does not say '$pattern' but: $(cat words)"
	[ "$(grep -cE '^(vstorectl|vstored): ' words)" = 1 ] || fail "$* says not one sentence but: $(cat words)"
}

# loop FILE [OPTION...]: sets `device` to a loop device over a file, which goes at the end
loop() {
	local file=$1
	shift
	device=$(losetup --find --show "$@" "$file" 2>words) || { echo "no loop device: $(cat words)"; exit 77; }
	at_end+=("losetup -d $device")
}

# file_system KIND SIZE FOLDER [LOSETUP-OPTION...]: makes one in a file and mounts it
file_system() {
	local kind=$1 size=$2 folder=$3
	shift 3
	requires "mkfs.$kind" losetup
	truncate -s "$size" "$folder.disk"
	loop "$folder.disk" "$@"
	mkdir -p "$folder"
	"mkfs.$kind" -q "$device"
	mount "$device" "$folder" 2>words || { echo "no mounting here: $(cat words)"; exit 77; }
	at_end+=("soon umount $work/$folder") # of who has just died, the kernel may close a file late
}

# soon COMMAND...: until it succeeds, a minute at most
soon() {
	for _ in $(seq 600); do
		"$@" && return
		sleep 0.1
	done
	return 1
}
