#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For tests that drive vstored: a folder of their own, a daemon, and an end to both. Source it, with VSTORED set.
set -eu

VSTORED=$(realpath "${VSTORED:?}")
work=$(mktemp -d ./vstored-test.XXXXXX)
cd "$work"
work=$PWD
pid=

finish() {
	local rc=$?
	[ -n "$pid" ] && kill "$pid" 2>/dev/null && wait "$pid"
	[ $rc -eq 0 ] || [ $rc -eq 77 ] || [ ! -e log ] || tail -n 30 log
	cd ..
	rm -rf "$work"
	exit $rc
}
trap finish EXIT

fail() {
	echo "FAILED: $*"
	exit 1
}

# requires TOOL...: a missing one is a skip, with its reason
requires() {
	local tool
	for tool in "$@"; do
		command -v "$tool" >/dev/null || { echo "$tool is not installed"; exit 77; }
	done
}

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

uri() { echo "nbd+unix:///$1?socket=$work/run/nbd/${1%%@*}.sock"; }
