#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Guests in VLANs of a Linux bridge: who reaches whom, that no frame crosses in another VLAN whatever is done to guest, port or agent, and
# that nothing of the host's is changed or left over. Usage: vlan.sh VSTORED AGENT CTL GUEST
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
VSTORE_TEST_NET=1
if [ -z "${VSTORE_TEST_HOST:-}" ] && ! unshare --net ip link add br0 type bridge vlan_filtering 1 2>/dev/null; then
	[ "$(uname -m)" = x86_64 ] && command -v linux.uml >/dev/null || { echo "linux.uml is not installed"; exit 77; }
	"$GUEST" "${VSTORE_IMAGES:-/var/tmp/vstore-images}" >/dev/null # there is no other network in there
	UML_MODULES="bridge veth tun" exec "$(dirname "$0")/uml" "$(realpath "$0")" "$(realpath "$1")" "$(realpath "$2")" "$(realpath "$3")" "$(realpath "$4")"
fi
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
requires ip bridge
# refused WORDS COMMAND...
refused() {
	local words=$1
	shift
	if ctl "$@" >words 2>&1; then fail "$* is not refused"; fi
	grep -qE -- "$words" words || fail "$*: $(cat words)"
}
# No frames but ours
no_ipv6() { "$@" sh -c '[ ! -e /proc/sys/net/ipv6 ] || for which in all default; do echo 1 >/proc/sys/net/ipv6/conf/$which/disable_ipv6; done'; }
no_ipv6
ip link add br0 address 52:54:00:00:ff:01 type bridge mcast_snooping 0
ip link set br0 up
for vlan in 1 20 30; do
	ip netns add "peer$vlan"
	no_ipv6 ip netns exec "peer$vlan"
	ip link add "peer$vlan" type veth peer name eth0 netns "peer$vlan"
	ip link set "peer$vlan" master br0 up
	ip -n "peer$vlan" addr add "10.9.0.$vlan/24" dev eth0
	ip -n "peer$vlan" link set eth0 up
done
start_host
ctl image import "$guest_image" small --format raw
mac=52:54:00:00:00:0a port=vst52540000000a mac2=52:54:00:00:00:0b port2=vst52540000000b
vm=(--image small --disk 64M --memory 128M --accel tcg)

echo "-- a bridge that does not keep VLANs apart is refused with what to do, and is left as it is"
before=$(inventory)
host() { ip -o link show | grep -v ' vst\| vnet' | sed 's/state [A-Z]*//; s/<[^>]*>//'; bridge -j vlan show | python3 -c 'import json, sys; print([p for p in json.load(sys.stdin) if not p["ifname"].startswith("v")])'; }
was=$(host)
refused 'ip link set br0 type bridge vlan_filtering 1.*bridge vlan add dev UPLINK vid 20' vm create g1 "${vm[@]}" --net bridge=br0,vlan=20
echo "<network><name>lan</name><forward mode='bridge'/><bridge name='br0'/></network>" >lan.xml
virsh -q net-define lan.xml
virsh -q net-start lan
refused 'give bridge=br0,vlan=20 instead' vm create g1 "${vm[@]}" --net network=lan,vlan=20
[ "$(host)" = "$was" ] && [ "$(inventory)" = "$before" ] || fail "a refusal left: $(diff <(echo "$was") <(host))"
ip link set br0 type bridge vlan_filtering 1
for vlan in 20 30; do
	bridge vlan del dev peer$vlan vid 1
	bridge vlan add dev peer$vlan vid $vlan pvid untagged
done
was=$(host)

# Frames to everybody, in VLANs 1 and 30, as long as the test runs; none of the guest's may come back
for vlan in 1 30; do
	start "other$vlan" ip netns exec "peer$vlan" python3 -c '
import socket, time
out = socket.socket(socket.AF_PACKET, socket.SOCK_RAW)
out.bind(("eth0", 0))
while True:
    out.send(b"\xff" * 6 + b"\x52\x54\x00\x00\xee\x01" + b"\x88\xb5" + b"foreign" * 9)
    time.sleep(0.05)'
done
heard() { ip -n "peer$1" -j -s link show eth0 | json 'd[0]["stats64"]["rx"]["packets"]'; }
# Since the last mark no frame of a guest was heard in VLANs 1 and 30
mark() { heard1=$(heard 1) heard30=$(heard 30); }
apart() {
	[ "$(heard 1)" = "$heard1" ] || fail "$1: VLAN 1 heard $(($(heard 1) - heard1)) frames"
	[ "$(heard 30)" = "$heard30" ] || fail "$1: VLAN 30 heard $(($(heard 30) - heard30)) frames"
}
# None of theirs went to the guest, whose own VLAN has not spoken yet
silent() {
	local said
	said=$(cat /sys/class/net/$port/statistics/tx_packets) || fail "$1: there is no port"
	[ "$said" = 0 ] || fail "$1: $said frames of other VLANs went to the guest"
}
only() { [ "$(bridge -j vlan show dev "$1" | json '[(v["vlan"], v.get("vlanEnd"), v["flags"]) for p in d for v in p["vlans"]]')" = "[($2, None, ['PVID', 'Egress Untagged'])]" ]; }
is_up() { ip -o link show "$1" | grep -q '[<,]UP[,>].*master br0'; }
part() { echo "-- $* [$SECONDS s]"; } # what each costs, for people
reaches() { tell g1 "ping -c 1 -W 2 10.9.0.$1"; }
net_up() { tell g1 "ip addr add 10.9.0.100/24 dev eth0; ip link set eth0 up"; }

part "a guest in VLAN 20"
mark
[ "$heard1 $heard30" = "0 0" ] || fail "the floods are heard where they are made: $heard1 $heard30"
ctl vm create g1 "${vm[@]}" --net "bridge=br0,vlan=20,mac=$mac"
only $port 20 && is_up $port || fail "the port: $(bridge vlan show)"
until_true 240 booted g1 1
net_up
silent "a new guest"
until_true 120 reaches 20 || fail "it does not reach its VLAN: $(tell g1 'ip addr'), $(bridge vlan show)"
for vlan in 1 30; do
	if reaches $vlan; then fail "it reaches VLAN $vlan"; fi
done
apart "a guest in VLAN 20"
[ "$(ctl -o csv --no-header -c bridge,vlan vm nic list g1)" = br0,20 ] || fail "list: $(ctl vm nic list g1)"

part "one more NIC while it runs, in VLAN 30; it goes again"
ctl vm nic attach g1 "bridge=br0,vlan=30,mac=$mac2"
only $port2 30 && is_up $port2 || fail "the second port: $(bridge vlan show)"
has_it() { tell g1 "grep -l $mac2 /sys/class/net/*/address"; }
until_true 120 has_it
tell g1 'ip addr flush dev eth0; ip addr add 10.9.0.101/24 dev eth1; ip link set eth1 up' || fail "its second NIC: $(tell g1 'ip addr')"
until_true 120 reaches 30 || fail "its second NIC does not reach VLAN 30"
[ "$(heard 1)" = "$heard1" ] || fail "VLAN 1 heard frames of the second NIC"
ctl vm nic detach g1 $mac2
[ ! -e /sys/class/net/$port2 ] || fail "a port is left over"
tell g1 'ip addr add 10.9.0.100/24 dev eth0' || true
until_true 120 reaches 20
mark

part "reset, started by libvirt without the agent, restarts of the agent and of libvirtd"
ctl vm reset g1
only $port 20 && is_up $port || fail "a reset changed the port: $(bridge vlan show)"
stop agent
virsh -q destroy g1
ups=$(cat /run/vstore/agent/console/*.log | tr -d '\r' | grep -c ' is up$')
virsh -q start g1
start_agent
until_true 240 booted g1 $((ups + 1))
net_up
until_true 120 reaches 20
apart "a guest that libvirt started"
stop libvirtd
start_libvirtd; until_true 120 libvirt_seen
murder agent; start_agent
reaches 20 || fail "a restart took it from its VLAN"

part "a port that somebody changed is mended; while a bridge keeps nothing apart no guest starts"
stop agent
bridge vlan add dev $port vid 7
bridge vlan add dev $port vid 7-9
start_agent
until_true 120 only $port 20
until_true 120 is_up $port
until_true 120 reaches 20
ctl vm stop g1
ip link set br0 type bridge vlan_filtering 0
refused 'vlan_filtering 1' vm start g1
stop agent; start_agent
noticed() { ctl -o json events --since 0 | json '[e["object"] for e in d["events"] if e["kind"] == "vm.port_failed"]' | grep -q g1; }
until_true 120 noticed
ip link set br0 type bridge vlan_filtering 1

part "a boot of the host: ports are gone, and libvirt starts no guest without them"
ip link delete dev $port
stop agent
if virsh -q start g1 2>/dev/null; then fail "it started without its port"; fi
start_agent
until_true 120 only $port 20
until_true 120 is_up $port
mark
virsh -q start g1
sleep 3 # of foreign frames
silent "after a boot"
apart "after a boot"
ctl vm stop g1
ip link delete dev $port
ctl vm start g1
only $port 20 && is_up $port || fail "a start made no port"
ctl vm stop g1

part "the agent is killed after each step"
there() {
	inventory
	ip -o link show | grep -o 'vst[0-9a-f]*' | sort
	ctl -o csv --no-header -c mac vm nic list g1
	virsh -q domiflist g1 --inactive | awk '{print $5}' | sort
}
for step in 0 1 2; do undone vm.nic.attach $step vm nic attach g1 "bridge=br0,vlan=30,mac=$mac2"; done
for step in 3 4; do
	dies vm.nic.attach $step vm nic attach g1 "bridge=br0,vlan=30,mac=$mac2"
	only $port2 30 && is_up $port2 && ctl vm nic list g1 | grep -q $mac2 || fail "nic attach died after step $step: $(there)"
	undone vm.nic.detach 0 vm nic detach g1 $mac2
	dies vm.nic.detach $((step - 2)) vm nic detach g1 $mac2
	[ ! -e /sys/class/net/$port2 ] || fail "nic detach died after step $((step - 2)): $(there)"
done
for step in 5 6 7; do undone vm.create $step vm create g2 "${vm[@]}" --net "bridge=br0,vlan=20,mac=$mac2"; done
ctl vm clone g1 g2
[ "$(ip -o link show | grep -c 'vst[0-9a-f]*:')" = 2 ] || fail "a clone has no port of its own: $(ip -o link show)"
dies vm.delete 2 vm delete g2
ctl vm delete g1
apart "at the end"
[ "$(host)" = "$was" ] && [ "$(inventory)" = "$before" ] || fail "left: $(diff <(echo "$was") <(host); diff <(echo "$before") <(inventory))"
[ -z "$(ip -o link show | grep 'vst')" ] || fail "ports are left: $(ip -o link show)"
