#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Guests and their host: they end in the reverse order of a boot, one that does not answer costs no other its time; a restart of the agent
# does nothing to them, whatever it was about. What deploy/systemd/vstore-guests.service runs is run here. Usage: guests.sh VSTORED AGENT CTL GUEST
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
python3 "$here/../integration/manager.py" "$work/manager" /run/vstore/agent.sock >told &
pids[other]=$!
until_true 120 grep -q listens told
start_host
ctl image import "$guest_image" small --format raw
for vm in first second byhand; do ctl vm create $vm --image small --disk 64M --memory 96M --net none --accel tcg; done
ctl vm set first autostart=yes order=1
ctl vm set second autostart=yes order=2
for vm in first second byhand; do until_true 240 booted $vm 1; done
cursor_now() { ctl api GET '/v1/events?since=0' | json 'd["cursor"]'; }
# happened: what became of guests since $cursor, in its order
happened() { ctl -o json events --since "$cursor" | json '" ".join(e["kind"][3:] + ":" + e["object"] for e in d["events"] if e["kind"] in ("vm.shutdown_asked", "vm.destroyed", "vm.stopped", "vm.autostart"))'; }
# The program of the unit, as it stands there but for the deadline
ending=$(sed -n 's|^ExecStop=/usr/bin/vstorectl ||p' "$here/../../deploy/systemd/vstore-guests.service")
end_all() { timeout 600 "$CTL" ${ending% --deadline *} --deadline "$1"; }
off() { is_state "$1" stopped; }

echo "-- restarts of the agent and of libvirtd are none of the guests' business; libvirt's own autostart is taken back"
cursor=$(cursor_now)
virsh -q autostart first
stop agent
NOTIFY_SOCKET=$work/manager start_agent # what it tells systemd
told() { [ "$(tail -n +2 told | tr '\n' ' ')" = "$1" ]; }
until_true 120 told 'READY=1 ' || fail "systemd is told: $(cat told)"
murder agent
start_agent
stop libvirtd
start_libvirtd; until_true 120 libvirt_seen
nothing_of_libvirt() { [ -z "$(virsh -q list --autostart --all --name | grep .)" ]; }
until_true 120 nothing_of_libvirt || fail "libvirt would start $(virsh -q list --autostart --all --name)"
for vm in first second byhand; do is_state $vm running || fail "$vm is $(state $vm)"; done
[ -z "$(happened)" ] || fail "a restart did something to guests: $(happened)"

echo "-- all end, the last of a boot first; one that is paused as well"
ctl vm pause byhand
end_all 5m 2>words || fail "ending all exits $?: $(cat words)"
grep -q '^3 guests have ended' words || fail "it says: $(cat words)"
ended() { [ "$(happened)" = "shutdown_asked:byhand stopped:byhand shutdown_asked:second stopped:second shutdown_asked:first stopped:first" ]; }
until_true 120 ended || fail "this happened: $(happened)"
end_all 5m 2>words || fail "ending none exits $?: $(cat words)"

echo "-- the agent is stopped or killed while guests end: it lets go of them for good"
ctl vm start second
until_true 240 booted second 2
tell second 'killall head' # nobody there presses its button any more
asked() { [[ "$(happened)" = *"shutdown_asked:second" ]]; }
for how in stop murder; do
	cursor=$(cursor_now)
	end_all 5m 2>words &
	client=$!
	until_true 120 asked
	$how agent
	rc=0; wait $client || rc=$?
	[ $rc != 0 ] || fail "an end that was not reached is told as one ($how)"
	start_agent
	until_true 120 settled || fail "something goes on: $(ctl job list)"
	[ "$(ctl -o json job list | json 'd["jobs"][0]["state"] + " " + d["jobs"][0]["error"]["code"]')" = "failed cancelled" ] || fail "the job: $(ctl -o json job list | json 'd["jobs"][0]')"
	is_state second running || fail "second is $(state second) after the agent's $how"
done

echo "-- one that does not answer loses its power at the end of its share, the next one has its own"
ctl vm start first
until_true 240 booted first 2
cursor=$(cursor_now)
rc=0; end_all 60s 2>words || rc=$?
[ $rc = 9 ] && grep -q 'without power now: second' words && grep -q '^1 guests have ended' words || fail "it exits $rc: $(cat words)"
destroyed() { [ "$(happened | sed 's/ stopped:second//')" = "shutdown_asked:second destroyed:second shutdown_asked:first stopped:first" ]; }
until_true 120 destroyed || fail "this happened: $(happened)"
grep -q 'vm.destroyed.*vm=second' agent.log || fail "it is not in the agent's log"
rc=0; ctl vm shutdown --all --deadline 0s 2>words || rc=$?
[ $rc = 2 ] || fail "no time at all exits $rc: $(cat words)"

echo "-- a boot whose guests start, when the agent restarts, and when the host goes down again"
booted_anew() {
	stop agent
	python3 - <<-'PY'
	import sqlite3
	d = sqlite3.connect("/run/vstore/agent/catalog.db")
	d.execute("UPDATE setting SET value = 'another' WHERE key = 'boot'")
	d.commit()
	PY
	cursor=$(python3 -c "import sqlite3; print(sqlite3.connect('/run/vstore/agent/catalog.db').execute('SELECT max(cursor) FROM event').fetchone()[0])")
	$1
}
ctl vm set first delay=3600
booted_anew start_agent
until_true 120 is_state first running
virsh -q suspend first # what happens in the hour that first has is noted then
noted() { ctl -o json events --since "$cursor" | json '[e["object"] for e in d["events"] if e["kind"] == "vm.paused"]' | grep -q first; }
until_true 120 noted
ctl vm resume first
stop agent
start_agent
until_true 120 is_state second running
both() { [ "$(happened)" = "autostart:first autostart:second" ]; } # it runs before that is noted
until_true 120 both || fail "this happened: $(happened)"
until_true 240 booted first 3
ctl vm stop first
ctl vm stop second
agent_first() { # vstored comes later than the agent, and the guests after that
	start agent "$AGENT" --run /run/vstore --state /run/vstore/agent
	until_true 120 grep -q vm.autostart_waits agent.log
	start_vstored
	until_true 120 libvirt_seen
}
stop vstored
booted_anew agent_first
until_true 120 is_state first running
until_true 240 booted first 4
end_all 5m 2>words || fail "ending all exits $?: $(cat words)"
ended() { [ "$(happened)" = "autostart:first shutdown_asked:first stopped:first" ]; }
until_true 120 ended || fail "this happened: $(happened)" # an agent that ends notes no more
stop agent
start_agent
until_true 120 off first
off second || fail "a boot that was cut short goes on: second is $(state second)"
until_true 120 ended || fail "this happened: $(happened)"
