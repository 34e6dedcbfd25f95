#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What a VM may have beside disks: NICs that come and go, UEFI and a TPM, its console through a terminal, its place in the order of a
# boot; and a domain of libvirt that becomes a VM. Usage: parts.sh VSTORED AGENT CTL GUEST
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
VSTORE_TEST_NET=1
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
requires ip swtpm swtpm_setup
[ -e /usr/lib/ISOLINUX/isolinux.bin ] || { echo "isolinux is not installed"; exit 77; }
[ -e /usr/share/OVMF/OVMF_CODE_4M.fd ] || { echo "ovmf is not installed"; exit 77; }
# refused RC WORDS COMMAND...
refused() {
	local want=$1 words=$2 rc=0
	shift 2
	ctl "$@" >words 2>&1 || rc=$?
	[ $rc = "$want" ] && grep -qE -- "$words" words || fail "$* exits $rc ($want): $(cat words)"
}
ip link add br-test address 52:54:00:00:ff:01 type bridge # an address of its own: else its first port gives it one
ip link set br-test up
start_host
ctl image import "$guest_image" small --format raw
before=$(inventory)

echo "-- UEFI and a TPM"
mkdir nothing
mount --bind nothing /usr/share/qemu/firmware
refused 3 'apt install ovmf' vm create u1 --image small --firmware uefi --net none
umount /usr/share/qemu/firmware
ctl vm create u1 --image small --disk 64M --memory 256M --net none --accel tcg --firmware uefi --tpm
echo "-- NICs"
ctl vm create p1 --image small --disk 64M --memory 128M --net none --accel tcg
ctl vm create p2 --no-start --image small --disk 64M --memory 128M --net bridge=br-test,mac=52:54:00:00:00:02 --accel tcg
until_true 240 console_says p1 "p1 is up"
has_mac() { tell p1 'cat /sys/class/net/*/address' | grep -qi "$1"; }
has_no_mac() { ! has_mac "$1"; }
refused 3 'ip link add nosuch0' vm nic attach p1 bridge=nosuch0
refused 2 'no bridge' vm nic attach p1 bridge=lo
refused 1 'VLANs apart.* VLAN 5 itself|vlan_filtering 1.* in that VLAN itself' vm nic attach p1 bridge=br-test,vlan=5
refused 4 'p2 has the MAC address 52:54:00:00:00:02' vm nic attach p1 bridge=br-test,mac=52:54:00:00:00:02
refused 3 'virsh net-define' vm nic attach p1 network=lan
echo "<network><name>lan</name><forward mode='bridge'/><bridge name='br-test'/></network>" >lan.xml
virsh -q net-define lan.xml
refused 2 'virsh net-start lan' vm nic attach p1 network=lan
virsh -q net-start lan
links=$(ip -o link show br-test)
ctl vm nic attach p1 bridge=br-test,mac=52:54:00:00:00:0A
ctl vm nic attach p1 network=lan,mac=52:54:00:00:00:0b
refused 4 'has a NIC with' vm nic attach p1 network=lan,mac=52:54:00:00:00:0b
until_true 120 has_mac 52:54:00:00:00:0a
until_true 120 has_mac 52:54:00:00:00:0b
[ "$(ip -o link show master br-test | wc -l)" = 2 ] || fail "the taps are not on the bridge: $(ip -o link)"
[ "$(ctl -o csv --no-header -c mac,network vm nic list p1 | sort | tr '\n' ' ')" = '52:54:00:00:00:0a, 52:54:00:00:00:0b,lan ' ] || fail "list: $(ctl vm nic list p1)"
ctl vm nic detach p1 52:54:00:00:00:0A
until_true 120 has_no_mac 52:54:00:00:00:0a
refused 3 'has no NIC' vm nic detach p1 52:54:00:00:00:0a
ctl vm nic detach p1 52:54:00:00:00:0b
[ -z "$(ip -o link show master br-test)" ] || fail "taps are left on the bridge"
[ "$(ip -o link show br-test | sed 's/state [A-Z]*//; s/<[^>]*>//')" = "$(sed 's/state [A-Z]*//; s/<[^>]*>//' <<<"$links")" ] || fail "the bridge was changed: $links"

echo "-- installed from an ISO: a disk with nothing on it lets the CD boot, and what that wrote boots next"
mkdir -p iso/isolinux /var/lib/libvirt/images
chmod 711 /var/lib/libvirt/images # QEMU's user reaches it, wherever this tree lies
mcopy -i "$guest_image" ::vmlinuz ::initrd iso/isolinux/
cp "$guest_image" install.img
echo install.img | cpio -o -H newc --quiet | gzip -1 >>iso/isolinux/initrd # what it installs
rm install.img
cp /usr/lib/ISOLINUX/isolinux.bin /usr/lib/syslinux/modules/bios/ldlinux.c32 iso/isolinux/
printf 'DEFAULT i\nPROMPT 0\nTIMEOUT 0\nLABEL i\n KERNEL vmlinuz\n INITRD initrd\n APPEND console=ttyS0 quiet rdinit=/init panic=1 tsc=unstable installer\n' >iso/isolinux/isolinux.cfg
xorriso -as mkisofs -quiet -o /var/lib/libvirt/images/install.iso -b isolinux/isolinux.bin -c isolinux/boot.cat -no-emul-boot -boot-load-size 4 -boot-info-table iso 2>words || fail "no ISO: $(cat words)"
rm -rf iso
chmod 644 /var/lib/libvirt/images/install.iso
ctl vm create i1 --cdrom /var/lib/libvirt/images/install.iso --disk 64M --memory 256M --net none --accel tcg
until_true 240 booted i1 1
tell i1 'grep -q installer /proc/cmdline && dd if=/install.img of=/dev/vda bs=1M conv=fsync 2>/dev/null' || fail "it did not boot from its CD: $(ctl vm log i1 | tail -n 5)"
ctl vm cdrom eject i1
ctl vm reset i1
until_true 240 booted i1 2
if tell i1 'grep installer /proc/cmdline'; then fail "it boots from its CD again"; fi
ctl vm stop i1
ctl vm disk attach i1 --volume "$(ctl -o name volume create stays --size 1M)"
ctl vm delete i1 2>words
grep -q 'In the trash: i1-disk0\.' words && grep -q 'Kept: stays\.' words || fail "what a deletion took and left is not told: $(cat words)"
ctl volume delete stays

echo "-- KVM, which does nothing here: auto is emulated, and kvm is refused"
ctl vm create k1 --no-start --image small --memory 96M --net none
virsh -q dumpxml k1 | grep -q "<domain type='qemu'" || fail "auto is $(virsh -q dumpxml k1 | head -n 1)"
[ "$(ctl api GET /v1/doctor | json 'next(f["state"] for f in d["findings"] if f["name"] == "kvm")')" = wrong ] || fail "the doctor finds KVM: $(ctl doctor)"
refused 2 'kvm' vm create k2 --no-start --image small --memory 96M --net none --accel kvm
ctl vm delete k1

echo "-- the console, as a person has it"
python3 "$here/console.py" "$CTL" --host unix:/run/vstore/agent.sock vm console p1
is_state p1 running || fail "leaving the console ended the VM"

echo "-- its screen, its random numbers, its user-data, its limits"
python3 - "$(ctl vm vnc p1 2>words)" <<'PY' || fail "no screen: $(cat words)"
import socket, sys
screen = socket.socket(socket.AF_UNIX)
screen.connect(sys.argv[1])
said = screen.recv(12)
assert said == b"RFB 003.008\n", said
PY
tell p1 'test -c /dev/hwrng' || fail "it has no source of random numbers"
printf '#!/bin/sh\necho "ours"\n' >user.sh
echo "ours alone" >words.txt
refused 2 'cloud-init would ignore it' vm create p3 --image small --user-data words.txt --net none
ctl vm create p3 --image small --disk 64M --memory 96M --net none --accel tcg --user-data user.sh
ctl vm disk set-qos p1 vda --iops 10 --burst 1s
[ "$(ctl -o json volume show p1-disk0 | json 'd["iops"], d["burst_seconds"]')" = "10 1" ] || fail "the limits: $(ctl -o json volume show p1-disk0)"
tell p1 'for i in $(seq 30); do dd if=/dev/vda bs=4k skip=$i count=1 iflag=direct of=/dev/null 2>/dev/null || echo error; done' | grep error && fail "a limit is no error"
curl -s --unix-socket /run/vstore/storage.sock http://x/metrics | grep -q '^vstore_volume_throttled_requests_total{volume="p1-disk0"} [1-9]' || fail "no request waited"
ctl vm disk set-qos p1 vda --iops 0
[ "$(ctl -o json volume show p1-disk0 | json 'd["iops"]')" = 0 ] || fail "the limit stays: $(ctl -o json volume show p1-disk0)"
until_true 240 console_says p3 "p3 is up"
tell p3 'cat /mnt/user-data' | grep -qx 'echo "ours"' || fail "its user-data: $(tell p3 'cat /mnt/user-data')"
ctl vm stop p3
ctl vm delete p3

echo "-- what u1 has"
until_true 240 console_says u1 "u1 is up"
tell u1 'test -d /sys/firmware/efi' || fail "it did not boot by UEFI"
tell u1 'test -e /sys/firmware/acpi/tables/TPM2' || fail "it has no TPM"
ctl vm stop u1
ctl vm delete u1
[ -z "$(find /var/lib/libvirt/qemu/nvram /var/lib/libvirt/swtpm -mindepth 1 2>/dev/null)" ] || fail "left: $(find /var/lib/libvirt/qemu/nvram /var/lib/libvirt/swtpm)"

echo "-- what changes while a VM starts stays"
start proxy python3 "$here/slow.py" /run/vstore/slow.sock /run/vstore/storage.sock 'PUT /v1/volumes/' "$work/go"
until_true 120 test -S /run/vstore/slow.sock
stop agent; start_agent --storage /run/vstore/slow.sock
ctl volume fence p2-disk0 # its next lease has another socket, which the catalog has to note
ctl vm start p2 &
starting=$!
until_true 120 grep -q held proxy.log
ctl vm nic attach p2 bridge=br-test,mac=52:54:00:00:00:0c
: >go
wait $starting || fail "p2 does not start"
ctl vm nic list p2 | grep -q 52:54:00:00:00:0c || fail "the start forgot a NIC that was attached meanwhile"
virsh -q domiflist p2 | grep -q 52:54:00:00:00:0c || fail "the guest has not the NIC that the catalog has"
ctl vm stop p2
rm -f go
: >proxy.log
ctl vm set p2 memory=160M &
setting=$!
until_true 120 grep -q held proxy.log
refused 5 'busy with vm.set' vm set p2 cpu=2
[ "$(ctl -o json vm why p2 | json 'd["cause"]')" = job ] || fail "why: $(ctl vm why p2)"
refused 5 'busy with vm.set' vm nic detach p2 52:54:00:00:00:0c
: >go
wait $setting || fail "p2 is not set"
virsh -q dumpxml --inactive p2 | grep -q 163840 || fail "libvirt was not told: $(virsh -q dumpxml --inactive p2 | grep memory)"
ctl vm set p2 memory=$(((160 << 20) + 1))
[ "$(ctl -o json vm show p2 | json 'd["memory_bytes"]')" = $((161 << 20)) ] || fail "memory is not rounded up to MiB, as when a VM is made: $(ctl -o json vm show p2)"
ctl vm set p2 memory=160M
stop proxy || true
stop agent; start_agent

cause() { ctl -o json vm why "$1" | json 'd["cause"]'; }
[ "$(cause p2)" = stopped ] || fail "why: $(ctl vm why p2)"
ctl vm pause p1
[ "$(cause p1)" = paused ] || fail "why: $(ctl vm why p1)"
ctl vm resume p1
[ "$(cause p1)" = none ] || fail "why: $(ctl vm why p1)"

echo "-- wrong values are refused, and change nothing"
was=$(ctl -o json vm show p2)
refused 2 '1 to 512 CPUs' vm set p2 cpu=513
refused 2 '64M to 16T' vm set p2 memory=1M order=4
refused 2 '0 to 9999' vm set p2 order=10000
refused 2 '0 to 3600' vm set p2 delay=3601
refused 2 'renamed alone' api PATCH /v1/vms/p2 '{"name": "p3", "cpu": 2}'
refused 2 'no name for a VM' vm rename p2 p--0123456789012345678901234567890123456789012345678
refused 3 'whole path of an ISO' vm cdrom insert p2 /
refused 3 'whole path of an ISO' api PUT /v1/vms/p2/cdrom '{"path": "/nosuch.iso"}'
[ "$(ctl -o json vm show p2)" = "$was" ] || fail "a refused change left something: $(ctl -o json vm show p2)"

echo "-- after a boot of the host: in their order, with their delay"
ctl vm stop p1
ctl vm set p1 autostart=yes order=2
ctl vm set p2 autostart=yes order=1 delay=15 # p1 is changed within it
stop agent
python3 -c "
import sqlite3
d = sqlite3.connect('/run/vstore/agent/catalog.db')
d.execute('UPDATE setting SET value = \'another\' WHERE key = \'boot\'')
d.commit()"
cursor=$(python3 -c "import sqlite3; print(sqlite3.connect('/run/vstore/agent/catalog.db').execute('SELECT max(cursor) FROM event').fetchone()[0])")
start_agent
until_true 120 is_state p2 running
ctl vm set p1 cpu=2
until_true 120 is_state p1 running
[ "$(virsh -q dumpxml p1 | grep -o '<vcpu[^/]*')" = "<vcpu placement='static'>2<" ] || fail "it started as it was before its delay: $(virsh -q dumpxml p1 | grep vcpu)"
started() { ctl -o json events --since "$cursor" | json '" ".join(e["object"] for e in d["events"] if e["kind"] == "vm.autostart")'; }
both() { [ "$(started)" = "p2 p1" ]; }
until_true 120 both || fail "started: $(started)"
ctl -o json events --since "$cursor" | python3 -c "
import datetime, json, sys
at = [datetime.datetime.fromisoformat(e['time'].replace('Z', '+00:00')) for e in json.load(sys.stdin)['events'] if e['kind'] == 'vm.autostart']
assert (at[1] - at[0]).total_seconds() >= 15, at"
[ -z "$(virsh -q list --autostart --all --name | grep .)" ] || fail "libvirt would start guests as well"
for vm in p1 p2; do ctl vm stop $vm; ctl vm delete $vm; done
[ "$(inventory)" = "$before" ] || fail "leftovers: $(diff <(echo "$before") <(inventory))"

echo "-- a domain of libvirt becomes a VM"
images=/var/lib/libvirt/images # QEMU's user reaches it, wherever this tree lies
mkdir -p "$images"
chmod 711 "$images"
qemu-img convert -O qcow2 "$guest_image" "$images/old.qcow2"
qemu-img resize -q "$images/old.qcow2" 96M
qemu-img create -q -f raw "$images/old-data.img" 8M
qemu-io -f raw -c 'write -P 7 1M 64k' "$images/old-data.img" >/dev/null
old_sum=$(sha256sum "$images/old.qcow2" "$images/old-data.img")
cat >old.xml <<XML
<domain type='qemu'><name>old</name><uuid>11111111-2222-4333-8444-555555555555</uuid><memory unit='MiB'>128</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='q35'>hvm</type></os><features><acpi/></features><devices>
<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='$images/old.qcow2'/><target dev='vda' bus='BUS'/></disk>
<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='$images/old-data.img'/><target dev='vdb' bus='virtio'/></disk>
<interface type='bridge'><mac address='52:54:00:00:00:11'/><source bridge='br-test'/><model type='virtio'/></interface>
<serial type='pty'/></devices></domain>
XML
sed 's/BUS/sata/; s/vda/sda/' old.xml >sata.xml
sed -i 's/BUS/virtio/' old.xml
before=$(inventory)
refused 3 'virsh list' vm adopt old
virsh -q define sata.xml
refused 1 'on bus sata' vm adopt old
virsh -q undefine old
sed "s/type='virtio'/type='e1000'/" old.xml >e1000.xml
virsh -q define e1000.xml
refused 1 '52:54:00:00:00:11 is of model e1000' vm adopt old
virsh -q undefine old
sed "s|<serial type='pty'/>|&<disk type='file' device='floppy'><target dev='fda'/></disk><filesystem type='mount'><source dir='/'/><target dir='root'/></filesystem>|" old.xml >more.xml
sed -i "s|machine='q35'|machine='pc'|" more.xml # which has floppies
virsh -q define more.xml
refused 1 'cannot take over: floppy of fda, filesystem' vm adopt old
virsh -q undefine old
virsh -q define old.xml
virsh -q autostart old
virsh -q start old
refused 5 'virsh shutdown old' vm adopt old
virsh -q destroy old
mv "$images/old-data.img" away.img
refused 2 'old-data.img cannot be read' vm adopt old
mv away.img "$images/old-data.img"
ctl volume create old-disk1 --size 1M
was=$(virsh dumpxml --inactive old)
refused 4 'old-disk1' vm adopt old
[ "$(virsh dumpxml --inactive old)" = "$was" ] || fail "a refused adoption changed the domain"
ctl volume delete old-disk1
# One that is only made flushes its definition; an adopted one each of its disks as well: qemu-img does once, without telling a failure, and
# the agent, which tells it
flushes() { curl -s --unix-socket /run/vstore/storage.sock http://x/metrics | awk '$1 == "vstore_flushes_total" {print $2}'; }
count=$(flushes)
ctl vm create bare --no-start --disk 8M --disk 8M --memory 128M --net none --accel tcg
bare=$(($(flushes) - count))
ctl vm delete bare
count=$(flushes)
ctl vm adopt old
[ $(($(flushes) - count)) -ge $((bare + 4)) ] || fail "the copies were not flushed: $(($(flushes) - count)) flushes, $bare of them of the definition"
[ "$(ctl -o json vm show old | json 'd["uuid"], d["autostart"], d["memory_bytes"], d["accel"], d["state"]')" = "11111111-2222-4333-8444-555555555555 True 134217728 tcg stopped" ] || fail "adopted: $(ctl -o json vm show old)"
[ -z "$(virsh -q list --autostart --all --name | grep .)" ] || fail "libvirt would start it as well"
[ "$(sha256sum "$images/old.qcow2" "$images/old-data.img")" = "$old_sum" ] || fail "the old files were changed"
refused 4 'a VM of vstore already' vm adopt old
ctl vm start old
until_true 240 console_says old "is up"
tell old 'cat /proc/partitions' | grep -q '98304 vda' || fail "its disk is not as large: $(tell old 'cat /proc/partitions')"
tell old 'dd if=/dev/vdb bs=64k skip=16 count=1 2>/dev/null | od -An -tx1 | head -n 1' | grep -q '07 07' || fail "its data is not there"
tell old 'cat /sys/class/net/*/address' | grep -qi 52:54:00:00:00:11 || fail "its MAC address has changed"
ctl vm stop old
ctl vm delete old
[ "$(inventory)" = "$(grep -v '^old$' <<<"$before")" ] || fail "leftovers: $(diff <(echo "$before") <(inventory))"
