#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# The end of deploy/quickstart: an image is imported, a VM boots from it, its console is shown, and all of it is gone again. On a libvirtd
# of its own, so that the host's stays as it is. Usage: show.sh VSTORED AGENT CTL GUEST
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
show() {
	printf '$ vstorectl %s\n' "$*"
	ctl "$@"
}
start_host
qemu-img convert -O qcow2 "$guest_image" guest.qcow2
show image import guest.qcow2 small
# Emulated, because this must work where KVM does not
show vm create hello --image small --disk 1G --memory 128M --net none --accel tcg
until_true 240 console_says hello "hello is up"
echo "what its serial console has printed (vstorectl vm console hello is the live one):"
ctl vm log hello | tr -d '\r\033' | tail -n 2
tell hello 'uname -sr; cat /proc/partitions'
show vm list
show vm snap create hello first
show vm stop hello
show vm delete hello
