#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# A host whose disk rots, and a peer that has copies: bits are flipped in 100 places of live data, map nodes and directories; clients read
# what was written, never anything else, and what was bad is stored anew. About 25 s.
# Usage: heal.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2") here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
# shellcheck source=tests/integration/hosts.sh
. "$here/hosts.sh"
requires curl

metric() { curl -sS --unix-socket a/run/storage.sock http://v/metrics | awk -v n="vstore_$1" '$1 == n { print $2 }'; }
# rot CHUNKS NODES FOOTERS SEED: flips a bit in so many of each in a's sealed segments (storage/FORMAT.md); prints how many of each
rot() {
	python3 - "$@" <<'END'
import glob, random, struct, sys
want_chunks, want_nodes, want_footers, seed = map(int, sys.argv[1:])
random.seed(seed)
chunks, nodes, footers = [], [], []
for name in sorted(glob.glob("a/store/seg/*")):
    data = open(name, "rb").read()
    if data[-4096:-4088] != b"VSSEGEND" or len(data) < 1 << 20:  # not sealed, or next to nothing in it
        continue
    directory, directory_bytes, _ = struct.unpack_from("<QQI", data, len(data) - 4096 + 16)
    footers.append((name, directory + random.randrange(max(directory_bytes, 1))))
    at = [at for at in range(4096, directory, 64) if data[at:at + 4] == b"VSCR"] + [directory]
    for this, after in zip(at, at[1:]):
        # Within what is stored; the last 64 bytes may be what fills up.
        place = (name, (this + max(after - 64, this + 1)) // 2)
        (chunks if after - this > 12000 else nodes).append(place)
kinds = [random.sample(kind, min(want, len(kind))) for kind, want in ((chunks, want_chunks), (nodes, want_nodes), (footers, want_footers))]
for name, place in sum(kinds, []):
    with open(name, "r+b") as file:
        file.seek(place)
        byte = file.read(1)[0]
        file.seek(place)
        file.write(bytes([byte ^ 1 << random.randrange(8)]))
print(*map(len, kinds))
END
}
again() { stop a -TERM; "$@"; serve a 10.77.0.1; }

two_hosts
# Every 64 MiB are a segment, so that one can lose its directory while others lose records.
host a -q volume create v --size 200M
head -c 150M /dev/urandom >data
qemu-img convert -n -f raw -O raw data "$(host_uri a v)"
host a -q snap create v@1
host a -q peer add b 10.77.0.2:7410
send v@1 b || fail "the copy: $(cat words)"
good=$(export_of a v)

# Read: 100 chunks, nodes, and a directory, which takes all that it names along.
again eval 'rot 100 6 0 1 >places'
read -r chunks nodes _ <places
[ "$chunks" = 100 ] && [ "$nodes" -ge 2 ] || fail "of chunks, nodes and directories there were only $(cat places)"
[ "$(export_of a v)" = "$good" ] || fail "rot was served, or not healed"
healed=$(metric healed_total)
[ "$healed" -ge 100 ] || fail "$healed records were healed of $(cat places) places"
again eval 'rot 0 0 2 2 >places2'
read -r _ _ directories <places2
[ "$directories" -ge 1 ] || fail "only $(cat places places2) places"
[ "$(export_of a v)" = "$good" ] || fail "without a directory something else was served"
[ "$(metric heals_failed_total)" = 0 ] || fail "something was not healed"
[ "$(metric healed_total)" -gt 0 ] || fail "no directory was lost, so nothing was shown"

# Scrub: what nobody reads is found and mended, and then stays so without a peer.
again eval 'rot 40 2 0 3 >places'
host a store scrub >words 2>&1 || true
grep -q 'have a whole copy' words || fail "the scrub does not tell what it mended: $(tail -n 3 words)"
stop b -TERM
[ "$(export_of a v)" = "$good" ] || fail "what was mended needs the peer again"

# Nobody has it: an error, never other data; with the peer back it reads again.
again eval 'rot 30 0 0 4 >places'
host a volume export v out.img --yes >words 2>&1 && fail "rot was served while no peer was there"
rm -f out.img
serve b 10.77.0.2
soon eval '[ "$(export_of a v)" = "$good" ]' || fail "the peer came back, and nothing was healed"

# Hosts that do not say a word are asked before it; c's and d's addresses are nobody's, and nothing says so.
host a -q peer delete b --yes
for dead in 66 67; do
	ip -n "$net-a" neigh add 10.77.0.$dead lladdr 02:00:00:00:00:$dead dev veth0 nud permanent
	host a -q peer add "h$dead" 10.77.0.$dead:7410
done
host a -q peer add b 10.77.0.2:7410
again eval 'rot 30 0 0 5 >places'
[ "$(export_of a v)" = "$good" ] || fail "two dead hosts keep the third from being asked"
[ "$(metric healed_total)" -ge 1 ] || fail "nothing was bad, so nothing was shown"
stop a -TERM
stop b -TERM
