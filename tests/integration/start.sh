#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Starts that must be refused, each in one sentence that helps, with the store as it was: no rights, no io_uring, no superblock, a newer
# format, two daemons, a crash loop, file systems that lose data, a log that is gone, wrong settings. About 3 s.
# Usage: start.sh VSTORED VSTORECTL NO_URING
VSTORED=$1 VSTORECTL=$(realpath "$2") no_uring=$(realpath "$3")
here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
requires curl python3 setpriv
vstored() { timeout 120 "$VSTORED" --run "${run:-run}" --any-file-system "$@"; }
sums() { find store -type f | sort | xargs sha256sum; }

refused 2 'store' "$VSTORED"
refused 2 'colour' vstored --store store --colour red
printf '[store]\ncolour = red\n' >conf
refused 2 'conf.*colour|colour.*conf' vstored --store store --config conf
printf '[store]\nscrub_every = 12\n' >conf
refused 2 'conf:2.*scrub_every.*30d, or never' vstored --store store --config conf
printf '[store]\nscrub_every = never\ngc_every = 2h\nrecompress_level = 30\n' >conf
refused 2 'recompress_level.*1 to 19' vstored --store store --config conf
printf '[store\npath = store\n' >conf
refused 2 "conf:2: 'path' stands in no section.*\[store\]" vstored --config conf
for address in nonsense 127.0.0.1 127.0.0.1:0 127.0.0.1:99999; do
	refused 2 "ADDRESS:PORT.*not '$address'" vstored --store store --tls tls --listen $address
done
refused 2 'pki issue' vstored --store store --listen 127.0.0.1:7410
refused 1 'directory none/store cannot be made: No such file' vstored --init --store none/store
refused 1 "folder for the log, $work/none, cannot be opened.*make it" vstored --init --store new --log-dir "$work/none"
rm -r new
refused 1 'There is no directory nowhere.*mounted.*--init' vstored --store nowhere
mkdir store empty
refused 1 'superblock.*mounted.*--init' vstored --store empty
[ -z "$(ls empty)" ] || fail "an empty directory got files"
make_store --log-size 16M
refused 1 'not empty' vstored --init --store store
sums >before

run=run.x refused 1 'io_uring.*kernel.io_uring_disabled' "$no_uring" "$VSTORED" --store store --run run.x --any-file-system
chmod 755 .
mkdir -m 777 run.nobody
run=run.nobody refused 1 'rights|permission|Permission' setpriv --reuid=65534 --regid=65534 --clear-groups \
	"$VSTORED" --store "$work/store" --run "$work/run.nobody" --any-file-system
sums | cmp - before || fail "a refused start changed the store"

# A newer format: bit 63 of the incompatible features, with a right checksum, in both copies
cp -a store newer
python3 "$here/superblock.py" newer/superblock 39 80
refused 1 'another version of vstored.*nothing was changed' vstored --store newer
refused 1 'another version of vstored' vstored --check --store newer
rm -r newer

# Two daemons: in one RUN, on one store
start_vstored
refused 5 'Another vstored.*--run' vstored --store store
run=run2 refused 5 'Another vstored has the store.*stop' vstored --store store
ctl -q volume create a --size 1M
[ -S run/nbd/a.sock ] || fail "a second daemon took the first one's socket"
stop_vstored

# A store that crashed the daemon twice while opening is not tried a third time.
printf '2 store' >run/starting
refused 1 'crashed 2 times.*--check.*remove' vstored --store store
rm run/starting

# File systems that do not keep what a store promises
if mkdir tmp && mount -t tmpfs none tmp 2>words; then
	at_end+=("soon umount $work/tmp")
	mkdir tmp/store tmp/u tmp/w
	refused 1 'tmpfs.*--any-file-system' "$VSTORED" --init --store tmp/store
	mkdir over
	if mount -t overlay none over -o "lowerdir=empty,upperdir=tmp/u,workdir=tmp/w" 2>words; then
		at_end+=("soon umount $work/over")
		mkdir over/store
		refused 1 'overlay.*--any-file-system' "$VSTORED" --init --store over/store
	fi
fi

# The log on another file system, and lost
mkdir split logs
refused 1 'log.*8 MiB' vstored --init --store split --log-size 1M
vstored --init --store split --log-dir "$work/logs" --log-size 16M >/dev/null
mv logs logs.away
refused 1 'folder of the log.*mount.*--log-dir' vstored --store split
mv logs.away elsewhere
ln -sfn split s2
rm -rf store
mv split store
start_vstored --log-dir "$work/elsewhere"
ctl -q volume create a --size 1M
stop_vstored
truncate -s 1M elsewhere/log
refused 1 'log.*wrong size' vstored --store store --log-dir "$work/elsewhere"
