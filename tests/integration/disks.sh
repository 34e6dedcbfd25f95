#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Disks with sectors of 512 and 4096 bytes, ext4 and xfs; a store that moves by cp -a from one to the other; a log on a disk of its own.
# About 4 s. Usage: disks.sh VSTORED VSTORECTL STAMPS
VSTORED=$1 VSTORECTL=$(realpath "$2") stamps=$(realpath "$3")
OWN_MOUNTS=1
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires curl
stamps() { "$stamps" "$1" run/nbd/a.sock a known ${2:+"$2"}; }
file_system ext4 200M one --sector-size 512
file_system ext4 200M two --sector-size 4096
[ "$(blockdev --getss "$device")" = 4096 ] || { echo "loop devices here have no sectors of 4096 bytes"; exit 77; }
file_system xfs 300M three --sector-size 4096
mkdir one/store two/logs
ln -s one/store store
make_store --log-size 16M --log-dir "$work/two/logs"
start_vstored
ctl -q volume create a --size 64M
stamps write 40
kill_vstored
start_vstored
stamps verify
ctl -q snap create a@moved
stop_vstored
"$VSTORED" --check --store store >check.out || fail "check: $(tail -n 5 check.out)"

# It moves, log and all, while nobody serves it.
cp -a one/store three/store
cp -a two/logs three/logs
mv one/store one/old
mv two/logs two/old
ln -sfn three/store store
start_vstored --log-dir "$work/three/logs"
stamps verify || fail "a store that was moved has lost data"
stamps write 20
kill_vstored
start_vstored --log-dir "$work/three/logs"
stamps verify
stop_vstored
"$VSTORED" --check --store store --log-dir "$work/three/logs" >check.out || fail "check: $(tail -n 5 check.out)"
