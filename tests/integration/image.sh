#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A real Debian image goes in through vstorectl, is checked through NBD, snapshotted, cloned, and comes out bit for bit.
# Usage: image.sh VSTORED VSTORECTL MAKE
VSTORED=$1 ctl=$(realpath "$2") make_image=$(realpath "$3")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires curl python3 mmdebstrap mke2fs e2fsck nbdcopy nbdinfo qemu-img zstd
image=$("$make_image" "${VSTORE_IMAGES:-/var/tmp/vstore-images}" small) || fail "no image could be made: $image"
vstorectl() { "$ctl" --host "unix:run/storage.sock" "$@"; }
stored() { api GET /v1/store | python3 -c 'import json,sys; s=json.load(sys.stdin); print(s["chunks_stored_total"])'; }
make_store --log-size 64M
start_vstored

vstorectl volume import "$image" disk --format raw
vstorectl -o name volume list | grep -qx disk || fail "the volume is not listed"
vstorectl volume export disk back.img
[ "$(sha256sum <back.img)" = "$(sha256sum <"$image")" ] || fail "the export differs"
[ "$(stat -c %b back.img)" -le "$(($(stat -c %b "$image") + 4096))" ] || fail "the export is not sparse"
nbdcopy "$(uri disk)" through-nbd.img
e2fsck -fn through-nbd.img >/dev/null || fail "the file system is not clean"
rm through-nbd.img back.img

# Space, once the open segments are cut to what is in them. zstd sees a whole small image at once, frames are 16 KiB: of two large
# images row 9 of bench/run asks for 1.10 times.
stop_vstored
du_kib=$(du -sk --exclude=log store | cut -f1)
zstd_kib=$(($(zstd -1 -q -c "$image" | wc -c) / 1024))
echo "the store takes $du_kib KiB, zstd -1 $zstd_kib KiB"
[ "$du_kib" -le $((zstd_kib * 118 / 100)) ] || fail "that is more than 1.18 times"
start_vstored

# The map shows the image's holes; the same data again costs nothing; qcow2 gives the same volume
[ "$(nbdinfo --map --totals "$(uri disk)" | awk '$NF ~ /hole/ {print $1}')" -gt 300000000 ] || fail "the map shows no holes"
before=$(stored)
qemu-img convert -O qcow2 "$image" image.qcow2
vstorectl volume import image.qcow2 again
[ $(($(stored) - before)) -lt 20 ] || fail "$(($(stored) - before)) chunks of the same data were stored again"
vstorectl snap create disk@one again@one
vstorectl snap diff disk@one again@one >/dev/null || fail "equal volumes differ"

# A snapshot stays as it was; a clone goes its own way
qemu-io -f raw -c 'write -P 7 100M 1M' "$(uri disk)" >/dev/null
vstorectl volume export disk@one snap.img
[ "$(sha256sum <snap.img)" = "$(sha256sum <"$image")" ] || fail "the snapshot has changed"
vstorectl volume clone disk@one copy
vstorectl volume export copy copy.img
cmp snap.img copy.img || fail "the clone differs"
if vstorectl snap diff disk@one disk >/dev/null; then fail "a changed volume does not differ"; fi
[ "$(vstorectl volume verify disk@one >/dev/null; echo $?)" = 0 ] || fail "verify"

# Words and codes of refusals
rc=0; vstorectl volume import "$image" disk --format raw 2>words || rc=$?
[ $rc = 4 ] || fail "importing over a volume exits $rc"
rc=0; vstorectl volume show nothing 2>words || rc=$?
[ $rc = 3 ] || fail "showing nothing exits $rc"
rc=0; vstorectl volume delete disk </dev/null 2>words || rc=$?
[ $rc = 2 ] || [ $rc = 6 ] || fail "deleting without --yes exits $rc"
vstorectl volume delete copy --yes
vstorectl trash list | grep -q copy || fail "the trash has no copy"
vstorectl store check || fail "store check"
vstorectl status
stop_vstored
