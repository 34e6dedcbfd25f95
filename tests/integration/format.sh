#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# FORMAT.md suffices: the reader that was written from it alone exports what NBD clients saw. Usage: format.sh VSTORED READER
VSTORED=$1 reader=$(realpath "$2")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires curl python3 nbdcopy qemu-io
make_store --log-size 16M
start_vstored
expect 201 POST /v1/volumes '{"name": "a", "size_bytes": 16777216}'
head -c 3000000 "$VSTORED" >image
truncate -s 16M image
nbdcopy image "$(uri a)"
expect 201 POST /v1/snapshots '{"names": ["a@folded"]}'
expect 202 POST /v1/volumes/a/fold
expect 200 GET '/v1/jobs/1?wait=60'
qemu-io -f raw -c 'write -P 9 100001 5000' -c 'write -z 1M 2M' -c 'discard 5M 300k' -c 'write -P 3 15M 64k' "$(uri a)" >/dev/null
expect 201 POST /v1/snapshots '{"names": ["a@pending"]}'
qemu-io -f raw -c 'write -P 5 200001 5000' -c 'write -P 4 1M 100k' "$(uri a)" >/dev/null
for name in a a@folded a@pending; do nbdcopy "$(uri "$name")" "want-$name"; done
kill_vstored
for name in a a@folded a@pending; do
	python3 "$reader" store "$name" "got-$name"
	[ "$(sha256sum <"want-$name")" = "$(sha256sum <"got-$name")" ] || fail "the reader exports another $name"
done
