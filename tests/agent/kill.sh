#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# vstored restarts under a writing guest. Planned (SIGUSR2): its QEMU keeps its connections, the guest is never paused, and waits for a moment.
# SIGKILL: it stalls, and is resumed by the agent. Either way it sees no error and loses nothing. Prints how long it waited.
# Usage: kill.sh VSTORED AGENT CTL GUEST [ROUNDS]
VSTORED=$1 AGENT=$2 CTL=$3 GUEST=$4
rounds=${5:-3}
# shellcheck source=tests/agent/lib.sh
. "$(dirname "$0")/lib.sh"
start_host
ctl image import "$guest_image" small --format raw
ctl vm create web1 --image small --disk 256M --memory 128M --net none --accel tcg
until_true 240 console_says web1 "web1 is up"
# Block n of the second half holds the number n; /n says how many are written and durable, /e how many writes failed, /w the longest time in
# hundredths of a second from one to the next.
writer='n=0 last= w=0; while [ ! -e /stop ]; do if echo $n | dd of=/dev/vda bs=4096 seek=$((32768 + n)) conv=notrunc,sync,fsync 2>/dev/null; then n=$((n + 1)); echo $n >/n; else echo 1 >>/e; fi
read -r u rest </proc/uptime; u=${u%.*}${u#*.}; [ -z "$last" ] || [ $((u - last)) -le $w ] || { w=$((u - last)); echo $w >/w; }; last=$u; done'
tell web1 "echo 0 >/n; : >/e; ($(tr '\n' ';' <<<"$writer")) & true"
written() { tell web1 'cat /n'; }
more_than() { [ "$(written)" -gt "$1" ]; }

until_true 120 more_than 20
plain=$(tell web1 'cat /w')
cursor=$(ctl api GET '/v1/events?since=0' | json 'd["cursor"]')
opened=$(grep -c nbd.attached vstored.log)
handed_over() { [ "$(grep -c vstored.handed_over vstored.log)" = "$1" ]; }
for round in $(seq $((2 * rounds))); do
	before=$(written)
	kill -USR2 "${pids[vstored]}"
	until_true 120 handed_over "$round" || fail "round $round: vstored did not restart"
	until_true 120 more_than "$((before + 3))" || fail "round $round: the guest does not go on: $(ctl vm why web1)"
done
[ "$(grep -c nbd.attached vstored.log)" = "$opened" ] || fail "QEMU connected again: $(grep nbd.attached vstored.log)"
if ctl events --since "$cursor" | grep vm.paused; then fail "the guest was paused"; fi
[ -z "$(tell web1 'cat /e')" ] || fail "the guest saw errors: $(tell web1 'cat /e')"
echo "$((2 * rounds)) planned restarts: the guest's longest wait from one write to the next was $(tell web1 'cat /w') hundredths of a second; $plain without"

for round in $(seq "$rounds"); do
	now=$(written)
	until_true 120 more_than "$((now + 3))"
	before=$(written)
	murder vstored
	[ "$(ctl -o json vm why web1 | json 'd["cause"]')" = disk ] || fail "why: $(ctl vm why web1)"
	start=$SECONDS
	start_vstored
	until_true 240 more_than "$((before + 3))" || fail "round $round: the guest does not go on: $(ctl vm why web1)"
	echo "round $round: the guest went on $((SECONDS - start)) s after the kill, $before writes were durable"
done
tell web1 ': >/stop; sleep 2'
[ -z "$(tell web1 'cat /e')" ] || fail "the guest saw errors: $(tell web1 'cat /e')"
count=$(written)
ctl vm stop web1
python3 - "$count" <<'PY'
import subprocess
import sys
count = int(sys.argv[1])
uri = "nbd+unix:///web1-disk0?socket=/run/vstore/nbd/web1-disk0.sock"
subprocess.run(["qemu-img", "convert", "-f", "raw", "-O", "raw", uri, "out.img"], check=True)
with open("out.img", "rb") as image:
    for n in range(count):
        image.seek((32768 + n) * 4096)
        got = image.read(32).split(b"\n")[0]
        assert got == str(n).encode(), f"write {n} of {count} is lost: {got!r}"
print(f"{count} writes answered, all of them there")
PY
