#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A snapshot goes to another host over several connections where one carries little: three more are made when it takes a while, each
# carries chunks, one that breaks is made anew and no chunk goes over twice for it; one with a limit has none. About 30 s.
# Usage: lanes.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"

link_end() { [ -z "$link_pid" ] || { kill "$link_pid" && wait "$link_pid" 2>/dev/null || true; }; }
link_pid=
at_end+=(link_end)
orders() { echo "$*" >./link; }
did() { python3 -c "import json; print(json.load(open('did'))['$1'])"; }
# over SNAPSHOT [SIDE]: a's connections for it, or the other side's, that carried a megabyte each
over() { host "${2:-a}" -o json replica transfers | python3 -c "import json,sys; print(sum(t['object'] == '$1' and t['sent_bytes'] + t['received_bytes'] > 1 << 20 for t in json.load(sys.stdin)['transfers']))"; }
all_four() { [ "$(over "$1")" = 4 ]; }
lanes() { host a api GET /metrics | awk '/^vstore_repl_lanes_total/ {print $2}'; }

two_hosts
ip netns exec "$net-b" python3 "$here/link.py" 10.77.0.2:7411 10.77.0.2:7410 link did 2>>log &
link_pid=$!
soon [ -e did ] || fail "the link does not start"
host a -q volume create v --size 64M
host a -q peer add b 10.77.0.2:7411
fill() { head -c 40M /dev/urandom >data && qemu-img convert -n -f raw -O raw data "$(host_uri a v)"; }
fill
host a -q snap create v@1
orders slow 2048
job=$(later v@1 b)
soon all_four v@1 || fail "there are not four connections: $(host a -o json replica transfers)"
there_too() { [ "$(over v@1 b)" = 4 ]; }
soon there_too || fail "the receiver shows something else: $(host b -o json replica transfers)"

# The newest breaks: the send goes on, as it was, and what was asked for there comes over the others.
orders drop
three() { [ "$(over v@1)" = 3 ]; }
soon three || fail "a connection was cut, and is still there: $(host a -o json replica transfers)"
[ "$(did cut)" = 1 ] || fail "the link cut $(did cut)"
[ -z "$(job_of "$job" waits)" ] || fail "the cut of a further connection is the send's: $(job_of "$job" waits)"
ended() { [ "$(job_of "$job" state)" != running ]; }
soon ended || fail "it does not end: $(host a job show "$job")"
[ "$(job_of "$job" state)" = "done" ] || fail "it failed: $(host a job show "$job")"
same v@1
sent=$(did bytes)
((sent < 43 << 20)) || fail "$sent bytes went over for 40 MiB"
grep -q 'send.cut' log && fail "the log says that the send was cut"
[ "$(lanes)" -ge 3 ] || fail "metrics: $(lanes) further connections"

# The first one breaks: all do, and it goes on with what is left.
fill
host a -q snap create v@2
job=$(later v@2 b)
soon all_four v@2 || fail "there are not four connections: $(host a -o json replica transfers)"
orders cut
orders slow 2048
soon ended || fail "it does not end: $(host a job show "$job")"
[ "$(job_of "$job" state)" = "done" ] || fail "it failed: $(host a job show "$job")"
same v@2
sent=$(($(did bytes) - sent))
((sent < 47 << 20)) || fail "$sent bytes went over for 40 MiB"

# With a limit: one connection.
fill
host a -q snap create v@3
before=$(lanes)
job=$(later v@3 b --limit 3M)
slow() { sends v@3 $((9 << 20)); }
soon slow || fail "nothing is sent: $(host a job show "$job")"
[ "$(lanes)" = "$before" ] || fail "a send with a limit has further connections"
host a -q job cancel "$job"
both_whole
