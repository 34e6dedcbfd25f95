#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Three hosts, each with a link to each: two volumes of one of them are in step on both others while fio (--verify) and stamps write,
# hosts are killed and stopped, links are cut, delayed, held up and taken down; then the primary is lost in one way or another, one of the
# others goes on, and the lost one comes back and follows. No answered flush is lost; at the end all three have the same. About 3 minutes.
# Usage: three.sh VSTORED VSTORECTL STAMPS [SEED]
VSTORED=$1 VSTORECTL=$(realpath "$2") stamps=$(realpath "$3") seed=${4:-$RANDOM} here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"
requires fio
RANDOM=$seed
echo "seed $seed"
address[c]=10.77.0.3 # each behind a proxy of the test's own, :7411
declare -A device=([ab]=veth0 [ac]=veth1 [bc]=veth2) faults=() link_pids=()

# ---- hosts and links ----

# wire_set X Y up|down
wire_set() {
	if [[ $1 < $2 ]]; then
		ip -n "$net-$1" link set "${device[$1$2]}" "$3"
	else
		ip -n "$net-$1" link set "${device[$2$1]}" "$3"
	fi
}
link_end() {
	local p
	for p in "${link_pids[@]}"; do kill "$p" 2>/dev/null && wait "$p" 2>/dev/null; done
}
# orders SIDE COMMAND...: to the proxy in front of that host
orders() { echo "${*:2}" >"$1/link"; }
up() { serve "$1" "${address[$1]}"; }
three_hosts() {
	local side other
	"$VSTORECTL" pki init ca --cluster site 2>/dev/null
	ip netns add "$net-c"
	at_end=("ip netns del $net-c" "${at_end[@]}")
	ip -n "$net-c" link set lo up
	wire a c "${device[ac]}"
	wire b c "${device[bc]}"
	at_end+=(link_end)
	for side in a b c; do
		mkdir -p "$side/store"
		"$VSTORECTL" pki issue ca "$side" "$side/tls" 2>/dev/null
		"$VSTORED" --init --store "$side/store" --any-file-system --log-size 32M >/dev/null
		up "$side"
		ip netns exec "$net-$side" python3 "$here/link.py" "${address[$side]}:7411" "${address[$side]}:7410" "$side/link" "$side/did" 2>>log &
		link_pids[$side]=$!
	done
	for side in a b c; do soon [ -e "$side/did" ] || fail "the proxy of $side does not start"; done
	for side in a b c; do
		for other in a b c; do
			[ $side = $other ] || host $side -q peer add $other "${address[$other]}:7411"
		done
	done
}
# others SIDE: the two hosts that it is not
others() {
	case $1 in
	a) echo b c ;;
	b) echo a c ;;
	c) echo a b ;;
	esac
}

# ---- what the volumes are ----

# The primary has two followers of each of two volumes
in_step() {
	host "$primary" -o json replica status >states 2>/dev/null || return 1
	python3 -c "import json,sys; r = json.load(open('states'))['replicas']; sys.exit(len(r) != 4 or any(x['state'] != 'in step' for x in r))"
}
# rule: the primary's volumes are no faster than this (a soak need not fill disks), and both others are to be in step
rule() {
	local volume other
	for volume in f s; do
		host "$primary" -q volume set $volume bandwidth=6M
		for other in $(others "$primary"); do
			soon host "$primary" -q replica add $volume "$other" --mode sync 2>words || fail "no replica of $volume on $other: $(cat words)"
		done
	done
}
settled() { soon in_step || fail "the copies of $primary do not get in step: $(host "$primary" -o json replica status)"; }

# ---- who writes ----

# fio_job URI OPTION...: writes, with a flush for every 32 writes and one at the end, and verifies; the same in each call of a reign
fio_job() {
	fio --name=three --ioengine=nbd --uri="$1" --size=16M --rw=randwrite --bs=4k --iodepth=8 --fsync=32 --end_fsync=1 --randseed=$((seed + reign)) \
		--verify=crc32c --verify_fatal=1 "${@:2}" </dev/null
}
socket_of() { echo "$work/$1/run/nbd/${2/\//:}.sock"; }
writers_start() {
	rm -f stamps.said
	"$stamps" flush "$(socket_of "$primary" s)" s known >stamps.said 2>&1 &
	stamper=$!
	fio_job "$(host_uri "$primary" f)" --do_verify=1 --rate=,1000k >fio.said 2>&1 &
	filler=$!
}
flushes_of() { sed -n 's/.* \([0-9]*\) flushes.*/\1/p' stamps.said; }
# stamper_ended: and how many flushes were answered to it
stamper_ended() {
	wait "$stamper" || true # its connection broke
	count=$(flushes_of)
	[ "${count:-0}" -gt 0 ] || fail "no flush was answered to stamps: $(cat stamps.said)"
	answered=$((answered + count))
}
# all_there SIDE F S: the two volumes there have all that was answered
all_there() {
	local side=$1 f=$2 s=$3
	cp known known.checked
	"$stamps" verify "$(socket_of "$side" "$s")" "$s" known.checked >verify.said 2>&1 || fail "$s of $side lacks what was flushed: $(cat verify.said)"
	fio_job "$(host_uri "$side" "$f")" --verify_only=1 >fio.verify 2>&1 || fail "$f of $side lacks what fio flushed: $(tail -n 20 fio.verify)"
}

# ---- faults, each with its end ----

# fault KIND SIDE begin|end: SIDE is a copy's host
fault() {
	case $1-$3 in
	kill-begin) stop "$2" -9 ;;
	kill-end) up "$2" ;;
	stop-begin) kill -STOP "${pids[$2]}" ;;
	stop-end) kill -CONT "${pids[$2]}" ;;
	cut-begin) orders "$2" cut ;;
	delay-begin) orders "$2" delay $((20 + RANDOM % 180)) ;;
	hold-begin) orders "$2" hold ;;
	cut-end | delay-end | hold-end) orders "$2" up ;;
	down-begin) wire_set "$primary" "$2" down ;;
	down-end) wire_set "$primary" "$2" up ;;
	esac
	[ "$3" = end ] || { faults[$1]=$((${faults[$1]:-0} + 1)); echo "  $1 $2, $SECONDS s"; }
}
pause() { sleep "$((RANDOM % 2)).$((RANDOM % 9 + 1))"; }
# draw WORD...: one of them is in `drawn`; not in a subshell, where the seed would not count
draw() { local list=("$@"); drawn=${list[RANDOM % $#]}; }
# Each kind once, in a random order, on one copy or the other; now and then two at a time
trouble() {
	local pair kind side held_kind='' held_side=''
	local left=(kill stop cut delay hold down)
	while [ ${#left[@]} -gt 0 ]; do
		draw "${left[@]}"
		kind=$drawn
		mapfile -t left < <(printf '%s\n' "${left[@]}" | grep -vx "$kind")
		read -ra pair < <(others "$primary")
		draw "${pair[@]}"
		side=$drawn
		[ "$side" != "$held_side" ] || side=$(others "$primary" | tr -d "$side ")
		pause
		fault "$kind" "$side" begin
		pause
		[ -z "$held_kind" ] || { fault "$held_kind" "$held_side" end; held_kind='' held_side=''; }
		if [ $((RANDOM % 3)) = 0 ]; then
			held_kind=$kind held_side=$side
		else
			fault "$kind" "$side" end
		fi
	done
	[ -z "$held_kind" ] || fault "$held_kind" "$held_side" end
}

# ---- the primary is lost ----

# given_up SIDE: what it served are copies of another host's now
given_up() {
	local volume rc
	for volume in f s; do
		rc=0
		host "$1" volume show $volume >/dev/null 2>&1 || rc=$?
		[ $rc = 3 ] || return 1
	done
}
# taken_over FROM TO: TO goes on with FROM's volumes, whatever state its copies are in
taken_over() {
	local volume
	for volume in f s; do
		refused 6 'accept-loss' host "$2" replica promote "$1/$volume" --yes
		host "$2" -q replica promote "$1/$volume" --yes --accept-loss 2>words || fail "$2 cannot go on with $1/$volume: $(cat words)"
	done
	soon [ -S "$(socket_of "$2" s)" ] || fail "$2 has no socket for what it goes on with"
}
# either_would_do OLD OTHER: the copy that is not taken has all that was answered as well
either_would_do() {
	local volume
	for volume in f s; do host "$2" -q replica promote "$1/$volume" --yes --as "also-$volume" --accept-loss 2>words || fail "$2 could not go on with $1/$volume: $(cat words)"; done
	soon [ -S "$(socket_of "$2" also-s)" ] || fail "$2 has no socket"
	all_there "$2" also-f also-s
	for volume in f s; do host "$2" -q volume delete "also-$volume" --yes; done
}
# back OLD HEIR: what it has and nobody else is kept as a snapshot, by itself; then it follows
back() { soon given_up "$1" || fail "$1 does not give up what it served: $(host "$2" -o json replica status)"; }
# overthrow WAY: a copy of the primary's takes its place
overthrow() {
	local old=$primary pair heir other kind side
	read -ra pair < <(others "$old")
	draw "${pair[@]}"
	heir=$drawn
	other=$(tr -d "$old$heir" <<<abc)
	draw kill stop cut hold down none
	kind=$drawn
	[ $kind = none ] || fault $kind "$other" begin # the third host is in trouble as well
	pause
	echo "  $old is lost ($1), $heir goes on, $SECONDS s"
	faults[$1]=$((${faults[$1]:-0} + 1))
	case $1 in
	dies) stop "$old" -9 ;;
	sleeps) kill -STOP "${pids[$old]}" ;;
	alone) for side in $(others "$old"); do wire_set "$old" "$side" down; done ;;
	esac
	taken_over "$old" "$heir"
	[ $kind = none ] || fault $kind "$other" end
	case $1 in
	sleeps) kill -CONT "${pids[$old]}" ;;
	alone) for side in $(others "$old"); do wire_set "$old" "$side" up; done ;;
	esac
	if [ "$1" != dies ]; then # it does not know, answers no flush of its client's, and sends it away when it is told
		back "$old" "$heir"
		stop "$old" -9
	fi
	stamper_ended
	either_would_do "$old" "$other"
	all_there "$heir" f s
	cp known.checked known # what stands there now does not go away again
	up "$old"
	back "$old" "$heir"
	primary=$heir
	rule
	settled
}

three_hosts
primary=a reign=0 answered=0 count=0
for volume in f s; do host a -q volume create $volume --size 64M; done
rule
settled
for way in dies sleeps alone restarts dies; do
	reign=$((reign + 1))
	echo "reign $reign: $primary, until it $way, $SECONDS s"
	writers_start
	trouble
	wait $filler || fail "fio: $(tail -n 30 fio.said)"
	kill -0 $stamper || fail "stamps: $(cat stamps.said)"
	if [ $way = restarts ]; then
		faults[restarts]=1
		stop $primary -9
		stamper_ended
		up $primary
		all_there $primary f s
		cp known.checked known
		settled
	else
		overthrow $way
	fi
done

# Quiet: all three have the same.
writers_start
wait $filler || fail "fio: $(tail -n 30 fio.said)"
kill -TERM $stamper
wait $stamper || fail "stamps: $(cat stamps.said)"
answered=$((answered + $(flushes_of)))
all_there $primary f s
settled
root() { host "$1" -o json snap show "$2" | python3 -c 'import json,sys; print(json.load(sys.stdin)["root"])'; }
for volume in f s; do
	good=$(export_of $primary $volume)
	host $primary -q snap create $volume@end
	for side in $(others $primary); do
		[ "$(export_of "$side" $primary/$volume)" = "$good" ] || fail "$volume is not the same on $primary and $side"
		host $primary -o json replica send $volume@end "$side" >job 2>words || fail "$volume@end does not get to $side: $(cat words)"
		[ "$(root "$side" $primary/$volume@end)" = "$(root $primary $volume@end)" ] || fail "the roots of $volume differ on $primary and $side"
		[ "$(export_of "$side" $primary/$volume@end)" = "$good" ] || fail "$volume@end is not the same on $primary and $side"
	done
	echo "$volume: root $(root $primary $volume@end), sha256 ${good%% *}, on all three"
done
did() { python3 -c "import json; print(sum(json.load(open(side + '/did'))['$1'] for side in 'abc'))"; }
for kind in cut delayed_bytes held_bytes; do [ "$(did $kind)" -gt 0 ] || fail "the proxies counted no $kind"; done
echo "seed $seed: $answered flushes answered to stamps; faults: $(for kind in "${!faults[@]}"; do printf '%s %s, ' "$kind" "${faults[$kind]}"; done)$(did cut) connections cut, $(did delayed_bytes) bytes delayed, $(did held_bytes) held up"
for side in a b c; do stop $side -TERM; done
for side in a b c; do
	"$VSTORED" --check --store $side/store --any-file-system >check || fail "$side: $(cat check)"
done
