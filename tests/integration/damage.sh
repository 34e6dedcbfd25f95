#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A store in which one thing has rotted, at many places, one after the other (damage.py). About 25 s. Usage: damage.sh VSTORED STAMPS
VSTORED=$1 stamps=$(realpath "$2") places=$(realpath "$(dirname "$0")/damage.py")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires curl python3
make_store --log-size 8M
start_vstored
expect 201 POST /v1/volumes '{"name": "a", "size_bytes": 16777216}'
"$stamps" write run/nbd/a.sock a known 12 >/dev/null
expect 201 POST /v1/snapshots '{"names": ["a@one"]}'
expect 202 POST /v1/store/fold
expect 200 GET '/v1/jobs/1?wait=60'
stop_vstored
cp -a store closed
cp known closed.known
start_vstored
"$stamps" write run/nbd/a.sock a known 3 >/dev/null
"$stamps" write run/nbd/a.sock a known 1 >/dev/null
kill_vstored
mv store killed
mv known killed.known
python3 "$places" "$VSTORED" "$stamps"
