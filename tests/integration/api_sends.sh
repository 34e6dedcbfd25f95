#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The control API of what is sent: limit and hours of one that follows (PATCH), the hosts of a policy; what is refused, and that a refusal
# changes nothing. The other host is one that nobody reaches. About 2 s.
# Usage: api_sends.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires curl python3

# says PATTERN: the last answer
says() { grep -qE "$1" answer || fail "it does not say '$1' but: $(cat answer)"; }
# follower KEYS...: of the only one
follower() { api GET /v1/replicas | python3 -c "import json,sys; r=json.load(sys.stdin)['replicas'][0]; print(*(r[k] for k in sys.argv[1:]))" "$@"; }
policy() { api GET /v1/policies/p | python3 -c "import json,sys; p=json.load(sys.stdin); print(*(p[k] for k in sys.argv[1:]))" "$@"; }
is() { [ "$1" = "$2" ] || fail "$3: $1, not $2"; }

make_store --log-size 16M
start_vstored
expect 201 POST /v1/volumes '{"name": "v", "size_bytes": 1048576}'
expect 200 PUT /v1/policies/p '{"keep_last": 2}'
# Without a certificate nothing can be sent.
api PUT /v1/policies/p '{"keep_last": 3, "send_to": ["b"]}' >/dev/null
says certificate
is "$(policy keep_last send_to rate_bytes window)" '2 [] 0 always' 'a policy that was refused'
stop_vstored

"$VSTORECTL" pki init ca --cluster site 2>/dev/null
"$VSTORECTL" pki issue ca a tls 2>/dev/null
start_vstored --tls tls
expect 200 PUT /v1/peers/b '{"address": "127.0.0.1:1"}'
expect 200 PUT /v1/peers/c '{"address": "127.0.0.1:2"}'

# One that follows
expect 404 PATCH /v1/volumes/v/replicas/b '{"rate_bytes": 1048576}'
says "has no replica on 'b'"
expect 404 PATCH /v1/volumes/none/replicas/b '{"rate_bytes": 1048576}'
expect 200 PUT /v1/volumes/v/replicas/b '{"lag_seconds": 7, "lag_bytes": 4096, "rate_bytes": 5}'
is_there() { [ "$(follower host)" = b ]; }
soon is_there
expect 400 PATCH /v1/volumes/v/replicas/b '{}'
says 'rate_bytes.*window'
expect 400 PATCH /v1/volumes/v/replicas/b '{"rate_bytes": "many"}'
expect 400 PATCH /v1/volumes/v/replicas/b '{"lag_seconds": 9}'
says lag_seconds
for window in 22-06 22:00-22:00 24:00-06:00 22:60-06:00 'night'; do
	expect 400 PATCH /v1/volumes/v/replicas/b "{\"rate_bytes\": 6, \"window\": \"$window\"}"
	says "$window.*no hours"
done
rules() { [ "$(follower lag_seconds max_lag_seconds max_lag_bytes rate_bytes window mode | cut -d ' ' -f 2-)" = "$*" ]; }
sleep 1 # the list is as old as the last look
rules 7 4096 5 always async || fail "a refused change changed something: $(cat answer)"
expect 200 PATCH /v1/volumes/v/replicas/b '{"window": "22:00-06:00"}'
soon rules 7 4096 5 22:00-06:00 async || fail "its hours: $(cat answer)"
expect 200 PATCH /v1/volumes/v/replicas/b '{"rate_bytes": 1048576}'
soon rules 7 4096 1048576 22:00-06:00 async || fail "its limit: $(cat answer)"
expect 200 PATCH /v1/volumes/v/replicas/b '{"rate_bytes": 0, "window": "always"}'
soon rules 7 4096 0 always async || fail "both: $(cat answer)"
expect 200 PUT /v1/volumes/v/replicas/c '{"mode": "sync"}'
expect 400 PATCH /v1/volumes/v/replicas/c '{"window": "22:00-06:00"}'
says 'in step'
expect 200 PATCH /v1/volumes/v/replicas/c '{"rate_bytes": 1048576}'
expect 200 DELETE /v1/volumes/v/replicas/c

# A policy
expect 404 PUT /v1/policies/p '{"keep_last": 3, "send_to": ["d"]}'
says "no peer 'd'"
expect 400 PUT /v1/policies/p '{"keep_last": 3, "send_to": ["b", "b"]}'
expect 400 PUT /v1/policies/p '{"keep_last": 3, "send_to": ["b", "c", "d", "e"]}'
says 'at most 3'
expect 400 PUT /v1/policies/p '{"keep_last": 3, "send_to": [""]}'
expect 400 PUT /v1/policies/p '{"keep_last": 3, "send_to": [7]}'
expect 400 PUT /v1/policies/p '{"keep_last": 3, "send_to": "b"}'
expect 400 PUT /v1/policies/p '{"keep_last": 3, "rate_bytes": 5}'
says 'where to'
expect 400 PUT /v1/policies/p '{"keep_last": 3, "send_to": ["b"], "window": "noon"}'
says 'no hours'
is "$(policy keep_last send_to rate_bytes window)" '2 [] 0 always' 'a policy that was refused'
expect 200 PUT /v1/policies/p '{"keep_last": 3, "send_to": ["c", "b"], "rate_bytes": 1048576, "window": "22:00-06:00"}'
sends="3 ['c', 'b'] 1048576 22:00-06:00"
is "$(policy keep_last send_to rate_bytes window)" "$sends" 'a policy that sends'
expect 200 PUT /v1/policies/p/volumes/v
shipped() { api GET /v1/replicas | python3 -c "import json,sys; print(*sorted(s['host'] + ':' + s['window'] + ':' + str(s['rate_bytes']) for s in json.load(sys.stdin)['shipped']))"; }
# b has an async replica of v: that one's pace counts there.
listed() { [ "$(shipped)" = 'b:always:0 c:22:00-06:00:1048576' ]; }
soon listed || fail "where it sends to: $(shipped)"
kill_vstored
start_vstored --tls tls
is "$(policy keep_last send_to rate_bytes window)" "$sends" 'a policy that sends, after kill -9'
soon rules 7 4096 0 always async || fail "who follows, after kill -9: $(cat answer)"
expect 200 PUT /v1/policies/p '{"keep_last": 3}'
is "$(policy keep_last send_to rate_bytes window)" '3 [] 0 always' 'a policy that sends no more'
nothing() { [ -z "$(shipped)" ]; }
soon nothing || fail "it sends no more, and shows: $(shipped)"
stop_vstored
