#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Other people's NBD clients against the NBD server over a real store. Usage: nbd_tools.sh SERVE
set -eu
serve=$(realpath "$1")
# shellcheck source=tests/lib.sh
. "$(dirname "$0")/../lib.sh"
requires nbdinfo nbdcopy qemu-io qemu-img fio
work=$(mktemp -d ./nbd-tools.XXXXXX)
cd "$work"
pid=
# shellcheck disable=SC2317 # called by the trap
finish() {
	local rc=$?
	[ -n "$pid" ] && kill "$pid" 2>/dev/null && wait "$pid"
	[ $rc -eq 0 ] || cat log
	cd ..
	rm -rf "$work"
	exit $rc
}
trap finish EXIT
mkdir store run

start() {
	: >out
	"$serve" store run "$@" >out 2>>log &
	pid=$!
	for _ in $(seq 1200); do
		grep -q ready out && return
		kill -0 "$pid" || return 1
		sleep 0.05
	done
	return 1
}
stop() {
	local old=$pid
	pid=
	kill "$old"
	wait "$old"
}
uri() { echo "nbd+unix:///$1?socket=run/${2:-disk}.sock"; }
disk="server.type=unix,server.path=run/disk.sock,export=disk"

start disk=256M other=16M
nbdinfo --json "$(uri disk)" >info
grep -q '"export-size": 268435456' info || fail "nbdinfo: the size"
grep -q '"block_size_maximum": 33554432' info || fail "nbdinfo: the largest block"
grep -q '"can_multi_conn": true' info || fail "nbdinfo: several connections"
nbdinfo --map "$(uri disk)" >map
grep -q '268435456  *3  *hole,zero' map || fail "an empty volume is one hole: $(cat map)"
nbdinfo --list --json "$(uri '' all)" >info
grep -q '"export-name": "other"' info || fail "nbdinfo: the list"
nbdinfo "$(uri other)" >/dev/null 2>&1 && fail "a volume's socket serves another volume"

# An image with holes and all kinds of data comes back as it was, by several connections.
truncate -s 256M image
for at in 0 1 17 100 255; do
	head -c 1M /dev/urandom | dd of=image bs=1M seek="$at" conv=notrunc status=none
done
yes text | head -c 20000000 | dd of=image bs=1000 seek=50001 conv=notrunc status=none
nbdcopy --flush image "$(uri disk)"
nbdcopy "$(uri disk)" back
cmp image back || fail "nbdcopy brings back something else"
nbdcopy --connections=1 --requests=64 --request-size=4096 image "$(uri disk)"
nbdcopy --connections=1 --requests=64 --request-size=33554432 "$(uri disk)" back
cmp image back || fail "nbdcopy with other sizes brings back something else"
[ "$(nbdinfo --map --totals "$(uri disk)" | awk '$NF == "data" {print $1}')" -lt 40000000 ] || fail "the map shows no holes"
qemu-img compare --image-opts "driver=nbd,$disk" "driver=raw,file.filename=image" >/dev/null || fail "qemu-img sees something else"

# qemu-io: patterns at odd places, zeroes, discards, several at once
qemu-io --image-opts "driver=nbd,$disk" -c 'write -P 7 512 1536' -c 'read -P 7 512 1536' -c 'aio_write -P 8 1M 3M' \
	-c 'aio_write -P 9 8M 64k' -c 'aio_write -f -P 9 9M 512' -c aio_flush -c 'read -P 8 1M 3M' -c 'read -P 9 8M 64k' \
	-c 'write -z 1M 1M' -c 'read -P 0 1M 1M' -c 'write -z -u 2M 512k' -c 'read -P 0 2M 512k' -c 'discard 3M 64k' -c 'read -P 0 3M 64k' \
	-c 'read -P 8 3200k 800k' -c flush >io
grep -qi 'fail\|error' io && fail "qemu-io: $(cat io)"
[ "$(grep -c '^wrote\|^read\|^discard' io)" -ge 14 ] || fail "qemu-io did not do all: $(cat io)"

# fio checks what it reads, at 32 requests in flight and after a restart
job=(--name=verify --ioengine=nbd --uri="$(uri disk)" --size=64M --bsrange=512-128k --bs_unaligned=0 --iodepth=32 --verify=crc32c --randseed=5)
fio "${job[@]}" --rw=randwrite --do_verify=1 >fio.out 2>&1 || fail "fio: $(tail -20 fio.out)"
nbdcopy "$(uri disk)" before
stop
start disk@one
nbdcopy "$(uri disk)" back
cmp before back || fail "a restart changed the volume"
nbdinfo --json "$(uri disk@one)" | grep -q '"is_read_only": true' || fail "a snapshot can be written"
qemu-io --image-opts "driver=nbd,$disk" -c 'write -P 1 0 8M' -c flush >/dev/null
nbdcopy "$(uri disk@one)" back
cmp before back || fail "the snapshot changed with its volume"
qemu-io -r --image-opts "driver=nbd,server.type=unix,server.path=run/disk.sock,export=disk@one" -c 'read 0 64k' -c flush >io || fail "qemu-io: $(cat io)"
qemu-io --image-opts "driver=nbd,server.type=unix,server.path=run/disk.sock,export=disk@one" -c 'write 0 4k' >io 2>&1 || true
grep -qi 'read-only\|permitted\|denied' io || fail "a write to a snapshot: $(cat io)"
stop
echo passed
