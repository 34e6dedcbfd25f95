#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What vstorectl promises its users and their scripts: each verb, output formats, exit codes, words with a holder, --dry-run, --yes,
# --async, jobs, the trash. About 4 s. Usage: contract.sh VSTORED VSTORECTL
VSTORED=$1 VSTORECTL=$(realpath "$2")
here=$(dirname "$(realpath "$0")")
# shellcheck source=tests/integration/lib.sh
. "$here/lib.sh"
requires curl python3 qemu-io bash openssl
# json EXPRESSION: of the document d on standard input
json() { python3 -c "import json,sys; d=json.load(sys.stdin); print($1)"; }
is() { [ "$1" = "$2" ] || fail "it is '$1', not '$2' ($3)"; }
make_store --log-size 16M
start_vstored

# Every verb has help with an example, and every example is understood by the parser.
verbs=$("$VSTORECTL" --help | sed -n 's/^  \([a-z][a-z-]*\( [a-z][a-z-]*\)\{0,2\}\)\( .*\)\?$/\1/p' | grep -v '^vstorectl' | sort -u)
[ "$(wc -l <<<"$verbs")" -ge 35 ] || fail "the help names too few verbs: $verbs"
while read -r verb; do
	# shellcheck disable=SC2086 # noun and verb are two words
	"$VSTORECTL" $verb --help >help.txt || fail "no help on $verb"
	grep -A1 '^Example:' help.txt | grep -q "^  vstorectl $verb" || fail "no example of $verb"
	# shellcheck disable=SC2086
	grep -q -- '--dry-run\.\|--dry-run and' help.txt || refused 2 'no --dry-run; nothing was done|Too few' ctl $verb --dry-run
done <<<"$verbs"
refused 2 'no noun "colour"' ctl colour
refused 2 'no verb "paint"' ctl volume paint
refused 2 'option --colour is unknown' ctl volume list --colour
refused 2 'Too few arguments; it is: vstorectl volume grow NAME SIZE' ctl volume grow a
refused 2 'starts no job' ctl volume list --async
refused 2 'table, wide, json, csv or name' ctl -o yaml volume list
refused 2 'duration' ctl --timeout soon volume list
refused 8 'Nobody answers on the socket' "$VSTORECTL" --host unix:/nowhere status
refused 2 'unix:PATH' "$VSTORECTL" --host tcp://x status
"$VSTORECTL" --version --host unix:/nowhere 2>/dev/null | grep -q '^vstorectl [0-9]' || fail "no --version"
for verb in 'vm list' 'vm disk list web1' 'image show debian12' 'network list' 'events --since 1' 'audit list' doctor; do
	# shellcheck disable=SC2086
	refused 8 "^vstorectl: ${verb%% *}.* is vstore-agent's.*start vstore-agent|--host" ctl $verb
done

# Volumes
is "$(ctl -q -o name volume create a --size 16M)" a 'the name of what was made'
ctl -o json volume create b --size 20K --level 3 --quota 1M --frame 64K 2>/dev/null >made
is "$(json 'd["schema"], d["changed"], d["object"]["size_bytes"], d["object"]["level"], d["object"]["frame_bytes"]' <made)" "1 True 20480 3 65536" create
refused 2 '4K, 8K, 16K or 64K' ctl volume create f --size 1M --frame 5K
refused 4 'There is already|exists' ctl volume create a --size 1M
refused 2 'no name' ctl volume create --size 1M -- -a
refused 2 'How large' ctl volume create c
refused 2 'no size' ctl volume create c --size many
refused 3 "no volume.*'c'|no volume named" ctl volume show c
is "$(ctl -o csv --no-header -c NAME,SIZE volume list --sort -size)" $'a,16777216\nb,20480' 'csv, sorted'
is "$(ctl -o csv -c NAME volume list --filter name=b | tr '\n' ' ')" 'name b ' 'csv, filtered'
is "$(ctl -o json volume list | json 'len(d["volumes"]), d["schema"]')" '2 1' json
ctl volume list >table
grep -q '^NAME .*SIZE' table || fail "no titles: $(cat table)"
grep -q '^a .* 16.0 MiB' table || fail "no human size: $(cat table)"
ctl -o wide volume list | grep -q UUID || fail "wide is not wider"
refused 2 "COLOUR|colour" ctl -c COLOUR volume list
ctl -q volume grow b 1M
refused 2 'can only grow' ctl volume grow b 4096
ctl -q volume set b quota=8M
refused 2 'level=N, quota=SIZE, frame=SIZE' ctl volume set b colour=red
ctl -q volume rename b c
refused 4 "'c' exists already" ctl volume rename a c
is "$(ctl -o json volume show c | json 'd["quota_bytes"], d["size_bytes"]')" '8388608 1048576' 'set and grow'

# Snapshots, holds, retention
qemu-io -f raw -c 'write -P 1 0 256k' "$(uri a)" >/dev/null
ctl -q snap create a@one c@one
qemu-io -f raw -c 'write -P 2 64k 64k' "$(uri a)" >/dev/null
is "$(ctl -o name snap list | sort | tr '\n' ' ')" 'a@one c@one ' 'snapshots'
is "$(ctl -o name snap list a)" a@one "one volume's"
refused 4 'one' ctl snap create a@one
refused 3 "no volume.*'z'|no volume named" ctl snap list z
refused 3 "no volume.*'z'|no volume named" ctl volume attachments z
refused 3 'no volume' ctl snap create z@one
rc=0; ctl -q snap diff a@one a >ranges || rc=$?
is $rc 10 "diff's exit"
grep -q 65536 ranges || fail "diff does not name the range: $(cat ranges)"
ctl -q snap diff a@one a@one || fail "a snapshot differs from itself"
ctl -q snap hold audit a@one
is "$(ctl -o csv --no-header snap holds a@one)" audit,a@one 'holds'
refused 6 'held.*release|release' ctl snap delete a@one --yes
grep -q 'held by: .*audit' words || fail "the holder is not named: $(cat words)"
refused 6 '' ctl -o json snap delete a@one --yes
is "$(json 'd["error"]["code"], d["error"]["holder"]' <data)" 'retained audit' 'the error document'
refused 6 'held|hold' ctl volume delete a --yes
ctl -q snap release audit a@one
refused 3 'tag|hold' ctl snap release audit a@one
refused 2 'Until when' ctl snap retain c@one
refused 2 'Until when' ctl snap retain c@one --until soon
refused 2 'Until when' ctl snap retain c@one --until 2999-01-01
ctl -q snap retain c@one --until 2499-01-01
refused 6 '2499' ctl snap delete c@one --yes
refused 6 'can only move later' ctl snap retain c@one --until 2498-01-01
is "$(ctl -o json snap show c@one | json 'd["retain_until"]')" 2499-01-01T00:00:00Z retain

# What destroys asks, or needs --yes; --dry-run changes nothing
for verb in 'volume delete a' 'snap delete a@one' 'snap restore a@one'; do
	# shellcheck disable=SC2086
	refused 2 '--yes' ctl $verb
	# shellcheck disable=SC2086
	ctl $verb --dry-run 2>words || fail "$verb --dry-run"
	grep -q 'not done: --dry-run' words || fail "$verb --dry-run does not say so: $(cat words)"
done
is "$(ctl -o name snap list a)" a@one 'after dry runs'
nbd_hold() { exec python3 -c "import signal,socket,struct
s=socket.socket(socket.AF_UNIX); s.connect('run/nbd/a.sock'); s.recv(18,socket.MSG_WAITALL)
s.sendall(struct.pack('>I',3)+b'IHAVEOPT'+struct.pack('>II',1,1)+b'a'); s.recv(10,socket.MSG_WAITALL); open('held','w'); signal.pause()"; }
nbd_hold & holder=$!
at_end+=("kill $holder")
soon test -e held
refused 5 'attached|in use|connected' ctl snap restore a@one --yes
refused 5 'attached|in use|connected' ctl volume delete a --yes
kill $holder
unset 'at_end[-1]'
soon sh -c "$VSTORECTL --host unix:run/storage.sock -o csv --no-header -c ATTACHED volume list --filter name=a | grep -qx 0" || fail "a gone client holds"
ctl -q snap restore a@one --yes
reads "$(uri a)" 1 64k 64k || fail "restore: $(cat io)"
ctl -q snap diff a@one a || fail "a restored volume differs from its snapshot"
ctl -q volume clone a@one d
refused 4 'exists|already' ctl volume clone a@one d
ctl -q volume verify a@one
ctl -q volume export a@one out.img
is "$(stat -c %s out.img)" 16777216 'the export'
refused 4 'yes|exists' ctl volume export a@one out.img
ctl -q volume import out.img e --format raw
refused 3 'No such file|no file' ctl volume import nothing.img f
is "$(ctl -q -o name volume list --filter name=f)" '' 'a failed import'

ctl support-bundle bundle.tar 2>words
is "$(stat -c %a bundle.tar)" 600 'the bundle is for its owner'
tar -xf bundle.tar
json 'd["volumes"][0]["name"]' <vstore-support/volumes.json >/dev/null || fail "the bundle has no volumes"
grep -q '^vms.json: status 404' vstore-support/MISSING || fail "what is not there is not named: $(cat vstore-support/MISSING)"
grep -q . vstore-support/host/proc/meminfo || fail "the bundle has no memory figures"
refused 4 'give another FILE' ctl support-bundle bundle.tar

# Jobs
id=$(ctl -q --async -o name store check)
ctl -q job wait "$id" || fail "job wait"
is "$(ctl -o json job show "$id" | json '(d.get("job") or d)["state"]')" 'done' 'the job'
ctl -q store gc
ctl store gc --recompress >words 2>&1
grep -q 'were freed' words || fail "nothing says what compressing anew gave back"
ctl job list | grep -q gc || fail "no gc in the list of jobs"
refused 3 'no job' ctl job show 4711
for verb in 'job show' 'job wait' 'job cancel'; do
	# shellcheck disable=SC2086
	refused 2 '"seven" is no number.*vstorectl job list' ctl $verb seven
done
ctl -q job cancel "$id" || fail "cancelling what has ended is no error"

# What a deletion frees is counted behind a collection; a forecast needs a day
soon sh -c "$VSTORECTL --host unix:run/storage.sock -o json volume show a | grep -q freed_own_bytes" || fail "nothing says what a would free"
ctl volume show a | grep -q '^ *FREED ' || fail "volume show has no FREED"
is "$(ctl -o json snap show a@one | json 'd["freed_bytes"] >= 0 and d["freed_counted"][-1]')" Z 'what a snapshot would free, and when that was counted'
ctl store status | grep -q 'only for the trash' || fail "the waterfall has no trash"
ctl store status | grep -qE '^ *SCRUBAGE_S +[0-9]+$' || fail "nothing says how long ago what the scrub has verified longest ago was"
ctl store forecast | grep -q 'no forecast yet.*needs 24' || fail "a forecast without a history: $(ctl store forecast)"
is "$(ctl -o json store forecast | json 'd["schema"], d["known"], d["days"], d["points"] >= 0')" '1 False None True' 'the forecast'

# The trash
ctl -q volume delete d --yes
ctl -q volume create d --size 4K
id=$(ctl -o csv --no-header -c ID,NAME trash list | sed -n 's/,d$//p')
refused 4 'exists|already|--as' ctl trash restore "$id"
ctl -q trash restore "$id" --as d2
ctl -q volume show d2 >/dev/null
ctl -q volume delete d2 --yes
refused 2 '--yes' ctl trash purge "$id"
ctl -q trash purge "$id" --yes
refused 3 '' ctl trash restore "$id"
refused 2 '"d2" is no number.*vstorectl trash list' ctl trash restore d2
refused 2 '"d2" is no number.*vstorectl trash list' ctl trash purge d2 --yes

# Policies
refused 2 'keep nothing.*--yes' ctl policy set p --every 1h
ctl policy set p --every 1h --keep-last 2 --dry-run 2>words
grep -q 'not done: --dry-run' words || fail "policy set --dry-run says: $(cat words)"
is "$(ctl -o name policy list)" '' 'policies after a dry run'
ctl -q policy set p --every 1h --keep-last 2 --keep-daily 3
is "$(ctl -o csv --no-header -c NAME,EVERY,LAST,DAILY policy list)" p,3600,2,3 'the policy'
refused 2 'duration' ctl policy set q --every often --keep-last 1
refused 2 'at least a minute|minute' ctl policy set q --every 1s --keep-last 1
refused 3 "no policy named 'q'" ctl policy attach q a
refused 3 "no volume named 'zz'" ctl policy attach p zz
ctl policy attach p a --dry-run >plan
grep -q "a@(new).*keep.*last 1 of 2" plan || fail "the plan before it is attached: $(cat plan)"
is "$(ctl -o csv --no-header -c VOLUMES policy show p)" '' 'a policy that was attached in a dry run'
ctl -q policy attach p a
is "$(ctl -o csv --no-header -c POLICY volume show a)" p "the volume's policy"
refused 5 'detach' ctl policy delete p --yes
before=$(ctl -o name snap list a | sort)
ctl policy run p --dry-run >plan
grep -q "a@(new).*keep.*last 1 of 2" plan || fail "the plan: $(cat plan)"
grep -q "a@one.*keep.*not the policy's" plan || fail "a person's snapshot is not kept: $(cat plan)"
is "$(ctl -o name snap list a | grep -v '@p-' | sort)" "$(grep -v '@p-' <<<"$before")" 'after a dry run'
for _ in 1 2 3; do ctl -q policy run p; sleep 1.1; done
is "$(ctl -o name snap list a | grep -c '@p-')" 2 'how many a policy keeps'
[ "$(ctl -o name trash list | wc -l)" -ge 1 ] || fail "what a policy removes is not in the trash"
ctl -o name snap list a | grep -qx a@one || fail "a policy removed a person's snapshot"
kill_vstored
start_vstored
is "$(ctl -o csv --no-header -c NAME,VOLUMES policy list)" p,a 'the policy after kill -9'
ctl -q policy detach p a
refused 3 'with the policy' ctl policy detach p a
ctl -q policy delete p --yes
is "$(ctl -o name snap list a | grep -c '@p-')" 2 "a deleted policy's snapshots"

# Other hosts
for address in nonsense 10.1.0.2 10.1.0.2:0 10.1.0.2:99999 host2.example:7410; do
	refused 2 "'$address' is no address.*ADDRESS:PORT" ctl peer add host2 $address
done
ctl -q peer add host2 10.1.0.2:7410
is "$(ctl -o csv --no-header peer show host2)" host2,10.1.0.2:7410 'peer show'
is "$(ctl -o json peer show host2 | json 'd["schema"], d["object"]["address"]')" '1 10.1.0.2:7410' 'peer show as JSON'
refused 3 "no peer 'host3'.*peer list" ctl peer show host3
ctl -q peer delete host2 --yes
refused 2 'copy.*--yes' ctl replica promote host2/a
refused 2 'is no name' ctl pki issue ca 'host 2' out
refused 2 '1 to 7300 days' ctl pki issue ca host2 out --days 0

# Certificates: a CA of one's own, and one that was there already; all are shown, with what became of them
ctl -q pki init ca --cluster site
refused 4 'holds a CA already' ctl pki init ca --cluster site
ctl -q pki issue ca host1 host1-tls
ctl -q pki revoke ca host1 --yes
ctl -q pki rotate ca host1 host1-tls --days 30
is "$(ctl -o csv --no-header -c HOST,STATE,CLUSTER pki show ca | sort | tr '\n' ' ')" ',valid,site host1,revoked,site host1,valid,site ' 'the certificates'
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -keyout corp.key -out corp.crt -days 900 -subj '/O=corp/CN=Corp CA' 2>/dev/null
refused 1 "organisation is 'corp', not 'site'" ctl pki import ca2 corp.crt corp.key --cluster site
refused 1 'is not the key of' ctl pki import ca2 corp.crt host1-tls/host.key
refused 1 "is no CA's certificate" ctl pki import ca2 host1-tls/host.crt host1-tls/host.key
[ ! -e ca2/ca.key ] || fail "a refused CA was taken"
ctl -q pki import ca2 corp.crt corp.key --cluster corp
ctl -q pki issue ca2 host1 corp-tls
openssl verify -CAfile corp.crt corp-tls/host.crt >verified || fail "it was not signed by that CA: $(cat verified)"
is "$(stat -c %a ca2/ca.key corp-tls/host.key | tr '\n' ' ')" '600 600 ' 'whose keys are readable'

# The rest
ctl status >screen
grep -q 'Nothing is wrong' screen || fail "$(cat screen)"
is "$(ctl -o json store status | json 'd["read_only"]')" False 'store status'
ctl version | grep -q '^vstored ' || fail version
# The format: current, then as a store that is older than all features has it
ctl store upgrade 2>said
grep -q 'Nothing to do' said || fail "a new store can be upgraded: $(cat said)"
is "$(ctl -o json -q store upgrade | json 'd["changed"], d["object"]["format"]["missing"]')" 'False []' 'upgrading a current store'
stop_vstored
python3 "$here/superblock.py" store/superblock 32 0000000000000000 || fail "the superblock could not be changed"
start_vstored
refused 1 'older than policies' ctl policy set q --keep-last 1
ctl store upgrade --dry-run 2>said
grep -q 'would get: policies' said || fail "an upgrade of an old store says: $(cat said)"
refused 1 'older than policies' ctl policy set q --keep-last 1
is "$(ctl -o json -q store upgrade | json 'd["changed"], d["object"]["format"]["missing"]')" 'True []' 'upgrading an old store'
ctl -q policy set q --keep-last 1
kill_vstored
start_vstored
is "$(ctl -o name policy list)" q 'a policy after the upgrade'
ctl -q policy delete q --yes
is "$(ctl api GET /v1/volumes/a | json 'd["name"]')" a 'api'
rc=0; ctl api GET /v1/volumes/zzz >/dev/null 2>&1 || rc=$?
is $rc 3 "api's exit"
refused 2 'JSON' ctl api POST /v1/volumes '{'
for shell in bash zsh fish; do ctl completion $shell >completion.$shell && [ -s completion.$shell ] || fail "completion $shell"; done
bash -n completion.bash || fail "bash does not take its completion"
refused 2 'bash, zsh and fish' ctl completion csh
stop_vstored
refused 8 'Nobody answers' ctl status
