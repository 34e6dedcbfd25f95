#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The store is full: a guest that writes waits and sees no error, vm why says that it is for space, no VM can be made and nothing is left
# over; when there is room again the guest goes on by itself and all that it wrote is there. Its QEMU killed: it is off, the event says so,
# it starts again. Usage: full.sh VSTORED AGENT CTL GUEST
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
"$VSTORED" --init --store store --log-size 16M --any-file-system >/dev/null
serve() {
	start vstored "$VSTORED" --store store --run /run/vstore --any-file-system --capacity 250M
	until_true 120 answers /run/vstore/storage.sock
}
serve
start virtlogd virtlogd
start_libvirtd
start_agent
ctl image import "$guest_image" small --format raw
ctl vm create web1 --image small --disk 1G --memory 128M --net none --accel tcg
until_true 240 booted web1 1

echo "-- QEMU is killed"
cursor=$(ctl api GET '/v1/events?since=0' | json 'd["cursor"]')
kill -9 "$(cat /run/libvirt/qemu/web1.pid)"
happened() { ctl -o json events --since "$cursor" | json '[e["kind"] for e in d["events"]]' | grep -q "$1"; }
until_true 120 happened vm.crashed || fail "no event of it: $(ctl events --since "$cursor")"
until_true 120 is_state web1 stopped || fail "web1 is $(state web1)"

echo "-- a disk's socket is gone: the doctor says so, and how to mend it"
sockets() { ctl api GET /v1/doctor | json 'next(f["state"] + ": " + f["message"] for f in d["findings"] if f["name"] == "sockets")'; }
sockets | grep -q '^ok: 2 disks' || fail "the doctor: $(sockets)"
rm "$(ctl -o csv --no-header -c socket volume attachments web1-disk0)"
sockets | grep -q '^wrong: .*web1-disk0 .*restart vstored' || fail "the doctor: $(sockets)"
stop vstored
serve
sockets | grep -q '^ok' || fail "the doctor: $(sockets)"
ctl vm start web1
until_true 240 booted web1 2

echo "-- the store fills up"
head -c 80M /dev/urandom >ballast
ctl volume import ballast ballast
# Block n of 1 MiB from 64 MiB on: random bytes, another part of them for each n, so that nothing is stored twice
block() { echo "(echo $1; tail -c +$1 /seed; cat /seed) | head -c 1048576 >/block"; }
count=110
tell web1 "head -c 1048576 /dev/urandom >/seed; (n=1; while [ \$n -le $count ]; do $(block '$n'); dd if=/block of=/dev/vda bs=1M seek=\$((64 + n)) conv=notrunc,fsync 2>/dev/null || echo error >>/errors; n=\$((n + 1)); done; : >/done) & true"
is_full() { [ "$(ctl -o json vm why web1 | json 'd["cause"]')" = space ]; }
until_true 240 is_full || fail "why: $(ctl vm why web1)"
before=$(inventory)
if ctl vm create web2 --image small --disk 1G --memory 128M --net none --accel tcg 2>words && ctl vm stop web2; then
	ctl vm delete web2 # a clone, a seed and a definition may have found room
fi
[ "$(inventory)" = "$before" ] || fail "left over: $(diff <(echo "$before") <(inventory))"
[ "$(ctl api GET /v1/doctor | json 'next(f["state"] for f in d["findings"] if f["name"] == "space")')" = wrong ] || fail "the doctor finds room: $(ctl doctor)"
ctl volume delete ballast
ctl trash purge "$(ctl -o csv --no-header -c id trash list --filter name=ballast)"

echo "-- there is room again"
all_written() { tell web1 'test -e /done'; }
until_true 300 all_written || fail "the guest does not go on: $(ctl vm why web1)"
tell web1 'test ! -e /errors' || fail "the guest saw errors: $(tell web1 'cat /errors')"
tell web1 "echo 3 >/proc/sys/vm/drop_caches; n=1; while [ \$n -le $count ]; do $(block '$n'); dd if=/dev/vda bs=1M skip=\$((64 + n)) count=1 2>/dev/null | cmp - /block || break; n=\$((n + 1)); done; echo same \$((n - 1))" | grep -qx "same $count" || fail "what the guest wrote is not there"
runs() { [ "$(ctl -o json vm why web1 | json 'd["cause"]')" = none ]; }
until_true 120 runs || fail "why: $(ctl vm why web1)"
ctl vm stop web1
ctl vm delete web1
