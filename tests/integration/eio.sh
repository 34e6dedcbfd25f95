#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A disk that fails: ext4 on a loop device, over nbdkit's error filter. Failed reads are answered with EIO and are right once the disk is;
# after a failed write the store takes no more, says why, serves what is proved, and a restart has all that was answered. About 5 s.
# Usage: eio.sh VSTORED VSTORECTL STAMPS
VSTORED=$1 VSTORECTL=$(realpath "$2") stamps=$(realpath "$3")
OWN_MOUNTS=1
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires curl nbdkit nbdfuse losetup mkfs.ext4
[ -e /dev/fuse ] || { echo "no /dev/fuse"; exit 77; }
stamps() { "$stamps" "$1" run/nbd/a.sock a known ${2:+"$2"}; }
truncate -s 600M image
touch nbd
nbdkit -U nbdkit.sock -P nbdkit.pid --filter=error file image \
	error-pread=EIO error-pread-rate=100% error-pread-file="$work/reads-fail" \
	error-pwrite=EIO error-pwrite-rate=100% error-pwrite-file="$work/writes-fail" \
	error-zero=EIO error-zero-rate=100% error-zero-file="$work/writes-fail"
soon test -s nbdkit.pid || fail "nbdkit does not start" # it writes it after its parent has ended
at_end+=("kill $(cat nbdkit.pid)")
nbdfuse nbd "nbd+unix:///?socket=$work/nbdkit.sock" >/dev/null 2>&1 &
at_end+=("soon umount $work/nbd") # the loop device lets go of it when its last user has, maybe later
soon test -s nbd || fail "nbdfuse shows nothing"
loop nbd
mkfs.ext4 -q "$device"
mkdir disk
mount "$device" disk
at_end+=("soon umount $work/disk")
mkdir disk/store
ln -s disk/store store
make_store --log-size 32M
start_vstored --cache 8M
ctl -q volume create a --size 256M
stamps write 100
api POST /v1/store/fold >/dev/null

# Reads: an error now, the right data later; nothing wrong in between.
stop_vstored
start_vstored --cache 8M
echo 3 >/proc/sys/vm/drop_caches
touch reads-fail
rc=0; stamps verify >/dev/null || rc=$?
[ $rc = 3 ] || fail "reading from a failing disk ends with $rc, not with EIO"
rm reads-fail
readable() { # a map node that failed is not tried again at once
	rc=0; stamps verify >/dev/null || rc=$?
	[ $rc != 3 ]
}
soon readable
[ $rc = 0 ] || fail "what could not be read is wrong afterwards: $rc"

# Writes: the first error stops the store's writing, in its own words; what was answered is there.
touch writes-fail
rc=0; stamps write 100 || rc=$?
[ $rc = 3 ] || [ $rc = 4 ] || fail "writing to a failing disk ends with $rc, not with EIO"
stamps write 1 >/dev/null && fail "a write was answered after one had failed"
ctl status >screen
grep -q '^! ' screen || fail "status does not say it: $(cat screen)"
refused 1 '(error|read-only|failed).*' ctl volume create b --size 1M
rm writes-fail
stamps verify || fail "an answered write is lost by a failed one"
kill_vstored
start_vstored
stamps verify || fail "an answered write is lost by a restart after a failed one"
stamps write 10
stamps verify
stop_vstored
"$VSTORED" --check --store store >check.out || fail "check: $(tail -n 5 check.out)"
