#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For tests with two hosts, a and b, each a vstored in a network namespace, with a veth between them. Source it behind lib.sh.
: "${work:?}" # lib.sh's
requires ip python3 qemu-img qemu-io
[ "$(id -u)" = 0 ] || { echo "network namespaces need root"; exit 77; }
declare -A pids=() address=([a]=10.77.0.1 [b]=10.77.0.2)

net=vst$$
ip netns add "$net-a" 2>words || { echo "no network namespaces here: $(cat words)"; exit 77; }
at_end+=("ip netns del $net-a")
ip netns add "$net-b"
at_end+=("ip netns del $net-b")
ip -n "$net-a" link add veth0 type veth peer name veth0 netns "$net-b"
for side in a b; do
	ip -n "$net-$side" link set lo up
	ip -n "$net-$side" link set veth0 up
done
ip -n "$net-a" addr add "${address[a]}/24" dev veth0
ip -n "$net-b" addr add "${address[b]}/24" dev veth0

# wire X Y DEVICE: one more link, between these hosts; `address` has theirs, the same on each of a host's links
wire() {
	ip -n "$net-$1" link add "$3" type veth peer name "$3" netns "$net-$2"
	ip -n "$net-$1" addr add "${address[$1]}" peer "${address[$2]}/32" dev "$3"
	ip -n "$net-$2" addr add "${address[$2]}" peer "${address[$1]}/32" dev "$3"
	ip -n "$net-$1" link set "$3" up
	ip -n "$net-$2" link set "$3" up
}
# host A|B: vstorectl there
host() { local at=$1; shift; "$VSTORECTL" --host "unix:$work/$at/run/storage.sock" "$@" </dev/null; }
# serve SIDE ADDRESS [TLS-FOLDER]; `more` has other options of vstored
more=()
serve() {
	local side=$1 tls=${3:-$work/$1/tls}
	ip netns exec "$net-$side" "$VSTORED" --store "$side/store" --run "$side/run" --any-file-system --tls "$tls" \
		--listen "$2:7410" "${more[@]}" 2>>log &
	pids[$side]=$!
	for _ in $(seq 1200); do
		host "$side" status >/dev/null 2>&1 && return
		kill -0 "${pids[$side]}" 2>/dev/null || fail "vstored of $side does not start"
		sleep 0.05
	done
	fail "vstored of $side does not answer"
}
stop() {
	kill "$2" "${pids[$1]}"
	wait "${pids[$1]}" 2>/dev/null || true
	pids[$1]=
}
end_all() {
	local p
	for p in "${pids[@]}"; do
		[ -z "$p" ] || { kill "$p" && kill -CONT "$p"; wait "$p"; } 2>/dev/null # it may be stopped
	done
}
at_end+=(end_all) # first, then the namespaces
# host_uri SIDE NAME: the volume there; a copy is HOST/NAME
host_uri() { echo "nbd+unix:///${2/\//%2F}?socket=$work/$1/run/nbd/${2/\//:}.sock"; }
qio() { qemu-io -f raw -c "$3" "$(host_uri "$1" "$2")" >/dev/null; }
# field KEY [SIDE]: of the only replica that a, or the other side, has
field() { host "${2:-a}" -o json replica status | python3 -c "import json,sys; print((json.load(sys.stdin)['replicas'] or [{}])[0].get('$1'))"; }
fenced() { host "${1:-a}" -o json replica status | grep -q "[ab] says: .*serves that volume itself"; }
# export_of SIDE NAME: the sha256 of its data
export_of() {
	host "$1" volume export "$2" out.img --yes >words 2>&1 || fail "export of $2: $(cat words)"
	sha256sum <out.img
	rm out.img
}
same() {
	local a b
	a=$(export_of a "$1") b=$(export_of b "a/$1")
	[ "$a" = "$b" ] || fail "$1 is not the same on both hosts"
}
send() { host a -o json replica send "$@" >job 2>words; }
# result KEY: of the last job
result() { python3 -c "import json,sys; print(json.load(open('job'))['job']['result']['$1'])"; }
# later ARGUMENTS: the job of a send that nobody waits for
later() { host a -o name --async replica send "$@"; }
# job_of ID KEY [SIDE]: of a job of a, or the other side
job_of() { host "${3:-a}" -o json job show "$1" | python3 -c "import json,sys; print(json.load(sys.stdin)['job'].get('$2', ''))"; }
# sends OBJECT [BYTES]: a's connection for it is open, and so much went over
sends() { host a -o json replica transfers | python3 -c "import json,sys; sys.exit(not any(t['object'].startswith('$1') and t['sent_bytes'] > ${2:-100000} for t in json.load(sys.stdin)['transfers']))"; }

# Both end, and both stores are whole
both_whole() {
	local side
	for side in a b; do stop "$side" -TERM; done
	for side in a b; do
		"$VSTORED" --check --store "$side/store" --any-file-system >check || fail "$side: $(cat check)"
	done
}

# Certificates of one CA, empty stores, both vstored up.
two_hosts() {
	local side
	"$VSTORECTL" pki init ca --cluster site 2>/dev/null
	for side in a b; do
		mkdir -p "$side/store"
		"$VSTORECTL" pki issue ca "$side" "$side/tls" 2>/dev/null
		"$VSTORED" --init --store "$side/store" --any-file-system --log-size 32M >/dev/null
	done
	serve a 10.77.0.1
	serve b 10.77.0.2
}
