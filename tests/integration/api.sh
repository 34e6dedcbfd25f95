#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The control API: changes, refusals, jobs, sockets. Usage: api.sh VSTORED
VSTORED=$1
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires curl python3
make_store --log-size 16M
start_vstored
expect 201 POST /v1/volumes '{"name": "a", "size_bytes": 1048576}'
[ -S run/nbd/a.sock ] || fail "the volume has no socket"
expect 409 POST /v1/volumes '{"name": "a", "size_bytes": 1048576}'
expect 400 POST /v1/volumes '{"name": "b", "size_bytes": 0}'
expect 400 POST /v1/volumes '{"name": "b", "size_bytes": 5000}'
expect 422 POST /v1/volumes '{"name": "b", "size_bytes": 1125899906842624}'
expect 400 POST /v1/volumes '{"name": "b", "size_bytes": 4096, "colour": 1}'
grep -q colour answer || fail "the unknown key is not named"
expect 400 POST /v1/volumes '{"name": "b", "size_bytes": '
expect 404 GET /v1/volumes/none
# sentence WORDS: the error of the last answer, which is JSON
sentence() {
	python3 -c 'import json; print(json.load(open("answer"))["error"]["message"])' >words || fail "no error in JSON: $(cat answer)"
	grep -q "$1" words || fail "another sentence: $(cat words)"
}
for method in GET DELETE OPTIONS HEAD FOO TRACE get; do
	expect 404 "$method" /nothing
	sentence 'There is no such path'
	[ "$method" = GET ] || { expect 405 "$method" /v1/status; sentence 'This path does not take that method'; }
done
expect 201 POST /v1/snapshots '{"names": ["a@one"]}'
expect 200 PUT /v1/snapshots/a@one/holds/audit
expect 403 DELETE /v1/snapshots/a%40one
expect 403 DELETE /v1/volumes/a
grep -q audit answer || fail "the hold is not named"
expect 200 DELETE /v1/snapshots/a@one/holds/audit
expect 201 POST /v1/snapshots/a@one/clone '{"name": "c"}'
expect 200 PATCH /v1/volumes/c '{"name": "d"}'
if [ ! -S run/nbd/d.sock ] || [ -e run/nbd/c.sock ]; then fail "the renamed volume's socket"; fi
expect 200 PATCH /v1/volumes/d '{"size_bytes": 2097152}'
expect 400 PATCH /v1/volumes/d '{"size_bytes": 2097152, "level": 3}'
expect 200 DELETE /v1/volumes/d
[ ! -e run/nbd/d.sock ] || fail "a deleted volume has a socket"
number=$(api GET /v1/trash | python3 -c 'import json,sys; print(json.load(sys.stdin)["trash"][0]["id"])')
expect 200 POST "/v1/trash/$number/restore" '{"as": "e"}'
[ -S run/nbd/e.sock ] || fail "the restored volume has no socket"
for work_path in store/check store/gc store/fold volumes/a/verify snapshots/a@one/verify; do
	expect 202 POST "/v1/$work_path"
	id=$(python3 -c 'import json; print(json.load(open("answer"))["job"]["id"])')
	expect 200 GET "/v1/jobs/$id?wait=60"
	grep -q '"state": "done"' answer || fail "$work_path: $(cat answer)"
done
# One holder a volume, a socket of its own, over a restart too
one='{"holder": "11111111-2222-3333-4444-555555555555", "holder_name": "web1"}'
expect 200 PUT /v1/volumes/a/attachment "$one"
expect 200 PUT /v1/volumes/a/attachment "$one"
socket=$(python3 -c 'import json; print(json.load(open("answer"))["object"]["socket"])')
[ -S "$socket" ] || fail "the attachment has no socket"
expect 409 PUT /v1/volumes/a/attachment '{"holder": "21111111-2222-3333-4444-555555555555", "holder_name": "web2"}'
grep -q '"holder": "web1"' answer || fail "the holder is not named"
expect 409 DELETE /v1/volumes/a
kill_vstored
rm "$socket"
start_vstored
[ -S "$socket" ] || fail "the attachment did not come back"
expect 200 PATCH /v1/volumes/a '{"name": "renamed"}'
[ -S "$socket" ] || fail "a rename moved the attachment's socket"
expect 200 PATCH /v1/volumes/renamed '{"name": "a"}'
expect 404 DELETE /v1/volumes/a/attachment '{"holder": "21111111-2222-3333-4444-555555555555"}'
expect 200 DELETE /v1/volumes/a/attachment '{"holder": "11111111-2222-3333-4444-555555555555"}'
[ ! -e "$socket" ] || fail "the socket of an ended attachment"
expect 400 PUT /v1/volumes/a/attachment '{"holder": "11111111-2222-3333-4444-555555555555", "holder_name": "web1", "uid": -1}'
expect 404 POST /v1/volumes/a/fence
api GET /metrics | grep -q '^vstore_writes_total 0$' || fail "the metrics"
if "$VSTORED" --store store --run run2 --any-file-system 2>second; then fail "two daemons on one store"; fi
grep -q 'Another vstored' second || fail "no sentence: $(cat second)"
stop_vstored
rm store/superblock
if start_vstored; then fail "a store without superblock was served"; fi
pid=
grep -q 'no superblock' log || fail "no sentence about the superblock"
