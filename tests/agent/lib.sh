#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# For tests that drive vstore-agent: a host of their own in a mount namespace, with vstored, virtlogd, libvirtd and the agent, and an end
# to all of it. Source it with VSTORED, AGENT, CTL and GUEST (the maker of the guest's image) set, as root.
set -eu

VSTORED=$(realpath "${VSTORED:?}") AGENT=$(realpath "${AGENT:?}") CTL=$(realpath "${CTL:?}") GUEST=$(realpath "${GUEST:?}")
lib=$(realpath "${BASH_SOURCE[0]}")
here=$(dirname "$lib")
# shellcheck source=tests/lib.sh
. "$here/../lib.sh"

[ "$(id -u)" = 0 ] || { echo "libvirtd's namespaces need root"; exit 77; }
requires libvirtd virtlogd virsh qemu-system-x86_64 qemu-img xorriso busybox syslinux mcopy mkfs.vfat cpio python3 curl unshare setpriv

# The host: its own /run, /etc/libvirt and /var/lib/libvirt; with VSTORE_TEST_NET its own network as well
if [ -z "${VSTORE_TEST_HOST:-}" ]; then
	image=$("$GUEST" "${VSTORE_IMAGES:-/var/tmp/vstore-images}") || fail "no guest could be made: $image"
	export VSTORE_TEST_HOST="$image"
	unshare --mount ${VSTORE_TEST_NET:+--net} true 2>/dev/null || { echo "no mounting here"; exit 77; }
	exec unshare --mount ${VSTORE_TEST_NET:+--net} --propagation private -- bash "$0" "$@"
fi
guest_image=$VSTORE_TEST_HOST
work=$(mktemp -d ./agent-test.XXXXXX)
cd "$work"
work=$PWD
mount -t tmpfs tmpfs /run
[ -z "${VSTORE_TEST_NET:-}" ] || { mount -t sysfs sysfs /sys; ip link set lo up; } # the devices of this network
for folder in /etc/libvirt /var/lib/libvirt /var/log/libvirt; do
	mkdir -p "$folder"
	mount -t tmpfs tmpfs "$folder"
done
chmod 755 /run /var/lib/libvirt
# What libvirt learnt of QEMU takes it up to a minute to learn again: it is kept beside the guest's image
mkdir -p "$(dirname "$guest_image")/libvirt-cache" /var/cache/libvirt
mount --bind "$(dirname "$guest_image")/libvirt-cache" /var/cache/libvirt
# KVM may exist and still hang guests, and libvirt's own probe of QEMU with them: everything here is emulated
[ ! -e /dev/kvm ] || { : >/run/no-kvm; chmod 0 /run/no-kvm; mount --bind /run/no-kvm /dev/kvm; }
cat >/etc/libvirt/qemu.conf <<CONF
security_driver = "none"
namespaces = []
cgroup_controllers = []
remember_owner = 0
swtpm_group = "kvm"
CONF
: >/etc/libvirt/virtlogd.conf
cat >/etc/libvirt/libvirtd.conf <<CONF
auth_unix_rw = "none"
host_uuid = "$(cat /proc/sys/kernel/random/uuid)"
CONF
declare -A pids=()

finish() {
	local rc=$? name
	[ $rc -eq 0 ] || [ $rc -eq 77 ] || { for name in agent vstored libvirtd; do [ -e "$name.log" ] && { echo "== $name"; tail -n 25 "$name.log"; }; done; }
	for vm in $(timeout 10 virsh -q list --name 2>/dev/null); do timeout 10 virsh -q destroy "$vm" >/dev/null 2>&1 || true; done
	for name in proxy other other1 other30 agent libvirtd virtlogd vstored; do stop "$name" 2>/dev/null || true; done
	cd /
	umount -l ${VSTORE_TEST_NET:+/sys} /dev/kvm /run /etc/libvirt /var/lib/libvirt /var/cache/libvirt 2>/dev/null || true
	rm -rf "$work"
	exit $rc
}
trap finish EXIT
trap 'exit 143' TERM INT # a timeout: QEMU must not be left behind

# start NAME COMMAND...
start() {
	local name=$1
	shift
	"$@" >>"$name.log" 2>&1 </dev/null &
	pids[$name]=$!
}
stop() {
	local pid=${pids[$1]:-}
	[ -n "$pid" ] || return 0
	unset "pids[$1]"
	kill "$pid" 2>/dev/null && wait "$pid"
}
murder() {
	local pid=${pids[$1]}
	unset "pids[$1]"
	kill -9 "$pid"
	wait "$pid" 2>/dev/null || true
}

# until_true SECONDS COMMAND...: the seconds are there to end a hang, and no less than 120
until_true() {
	local left=$(($1 * 10))
	shift
	while ! "$@" >/dev/null 2>&1; do
		left=$((left - 1))
		[ $left -gt 0 ] || { echo "did not come true: $*"; return 1; }
		sleep 0.1
	done
}

ctl() { timeout "${CTL_TIMEOUT:-300}" "$CTL" --host unix:/run/vstore/agent.sock --yes "$@"; }
json() { python3 -c "import json,sys; d=json.load(sys.stdin); print($1)"; }
state() { ctl -o json vm show "$1" 2>/dev/null | json 'd["state"]'; }
is_state() { [ "$(state "$1")" = "$2" ]; }
# No job is under way
settled() { [ -z "$(ctl -o csv --no-header job list --filter state=running)" ]; }
answers() { curl -sf --max-time 5 --unix-socket "$1" http://x/v1/status; }

start_vstored() {
	start vstored "$VSTORED" --store store --run /run/vstore --any-file-system
	until_true 120 answers /run/vstore/storage.sock
}
start_libvirtd() {
	start libvirtd libvirtd
	until_true 120 virsh -q list
}
libvirt_seen() { ctl network list; }
# start_agent FLAG...
# shellcheck disable=SC2120 # dies gives some
start_agent() {
	start agent "$AGENT" --run /run/vstore --state /run/vstore/agent "$@"
	until_true 120 answers /run/vstore/agent.sock
	until_true 120 libvirt_seen
}
start_host() {
	"$VSTORED" --init --store store --log-size 64M --any-file-system >/dev/null
	start_vstored
	start virtlogd virtlogd
	start_libvirtd
	start_agent
}

# What is there of VMs: domains, volumes, catalog rows, sockets, seeds. Two of them are compared for leftovers.
inventory() {
	virsh -q list --all --name | sort
	ctl -o name volume list | sort
	ctl -o name vm list | sort
	find /run/vstore/vm /run/vstore/agent -mindepth 1 ! -name 'catalog.db*' 2>/dev/null | sort
}

console_says() { ctl vm log "$1" 2>/dev/null | tr -d '\r' | grep -q -- "$2"; }
# booted VM TIMES: only then does it answer; what it is told before is lost, and costs two minutes
booted() { [ "$(ctl vm log "$1" 2>/dev/null | tr -d '\r' | grep -c ' is up$')" -ge "$2" ]; }

# tell VM COMMAND: runs it in the guest by its serial console; prints what it said; its status
tell() { python3 "$here/tell.py" "$(ctl api GET "/v1/vms/$1/console" | json 'd["terminal"]')" "$2"; }

# dies KIND STEP COMMAND...: the agent dies after that step of the command, and starts again
dies() {
	local at=$1:$2
	shift 2
	stop agent
	start_agent --crash-after "$at"
	local pid=${pids[agent]}
	if ctl "$@" >words 2>&1; then fail "$at: the agent lived"; fi
	wait "$pid" 2>/dev/null || true
	unset 'pids[agent]'
	start_agent
	until_true 120 settled
}
# undone KIND STEP COMMAND...: everything is as before, as the test's own there() tells it
undone() {
	local before after
	before=$(there)
	dies "$@"
	after=$(there)
	[ "$before" = "$after" ] || fail "$1 died after step $2: $(diff <(echo "$before") <(echo "$after"))"
}
