#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# What is installed beside the programs fits them: manuals, example settings, the unit, alerts. About 2 s.
# Usage: deploy.sh VSTORED VSTORECTL VSTORECTL.1 DEPLOY
# shellcheck disable=SC2034 # lib.sh has it
VSTORED=$1 VSTORECTL=$(realpath "$2") page=$(realpath "$3") deploy=$(realpath "$4")
# shellcheck source=tests/integration/lib.sh
. "$(dirname "$0")/lib.sh"
requires curl python3 mandoc systemd-analyze

# Manuals: well formed, and no flag or key is missing.
for file in "$page" "$deploy/man/vstored.8"; do
	mandoc -Tlint -Wwarning "$file" >lint || fail "$(cat lint)"
done
for word in $("$VSTORED" --help | grep -oE '(^|[ ,])--[a-z-]+' | tr -d ' ,-' | sort -u); do
	tr -d '-' <"$deploy/man/vstored.8" | grep -qE "Fl (help , Fl )?$word" || fail "vstored.8 does not have --$word"
done
[ "$(grep -c '^\.It ' "$page")" -ge 45 ] || fail "vstorectl.1 names too few verbs"

# Example settings: all keys are known, all are described, and a store is served with them.
make_store --log-size 16M
sed -nE "s/^#([a-z_]+ = .+)/\1/; s/^dir = .*/dir = run/; s/^path = .*/path = store/; /^(\[|[a-z_]+ = .)/p" "$deploy/conf/vstored.conf" >conf
[ "$(grep -c = conf)" -ge 13 ] || fail "the example has too few keys: $(cat conf)"
for key in $(sed -n 's/ = .*//p' conf) log_dir tls listen; do
	grep -qw "$key" "$deploy/man/vstored.8" || fail "vstored.8 does not have the key $key"
	"$VSTORED" --help | grep -qw "$key" || fail "vstored --help does not have the key $key"
done
start_vstored --config conf

# Alerts: YAML, and each figure in them is one of ours.
api GET /metrics >metrics
for name in $(grep -oE '\bvstore_[a-z_]+' "$deploy/prometheus/vstore.rules.yml" | sort -u); do
	grep -q "^$name " metrics || grep -q "\"${name#vstore_}\"" "$deploy"/../storage/daemon/metrics_replica.c || fail "the alerts use $name, which /metrics does not have"
done
python3 - "$deploy/prometheus/vstore.rules.yml" <<'PY'
import sys, yaml
rules = yaml.safe_load(open(sys.argv[1]))["groups"][0]["rules"]
assert len(rules) >= 8
for rule in rules:
    assert rule["labels"]["severity"] in ("warning", "critical") and rule["annotations"]["summary"] and rule["annotations"]["description"], rule
PY
if command -v promtool >/dev/null; then promtool check rules "$deploy/prometheus/vstore.rules.yml" >/dev/null || fail "promtool"; fi

# AppArmor's rule: in a guest's profile it is about that guest's folder, and about no other.
command -v apparmor_parser >/dev/null || { echo "apparmor_parser is not installed"; exit 77; }
for vm in 11111111 22222222; do
	{ echo "profile libvirt-$vm flags=(attach_disconnected) {"; cat "$deploy/apparmor/libvirt-qemu"; echo "}"; } >profile
	apparmor_parser -Q -K -d profile >rules 2>&1 || fail "AppArmor: $(cat rules)"
	[ "$(grep -oE 'vstore/vm/[^/]*/' rules | sort -u)" = "vstore/vm/libvirt-$vm/" ] || fail "AppArmor's rule for $vm: $(cat rules)"
done

# The units: understood by systemd. vstored's is shut in. Guests end before all that they need, and by no restart of it.
for unit in vstored vstore-agent vstore-guests; do
	sed "s|/usr/s\?bin/vstore[a-z-]*|$VSTORED|; /^Documentation/d" "$deploy/systemd/$unit.service" >"$unit.service"
	systemd-analyze verify "./$unit.service" >verify 2>&1 || true
	if grep "$unit.service" verify; then fail "the unit $unit: $(cat verify)"; fi
done
for other in vstored vstore-agent libvirtd libvirt-guests; do
	grep -qE "^After=.*\b$other\.service" vstore-guests.service || fail "guests do not end before $other"
done
if grep -E '^(Requires|BindsTo|PartOf|Requisite)=' vstore-guests.service; then fail "a restart of something else would end guests"; fi
ending=$(sed -n 's|^ExecStop=/usr/bin/vstorectl ||p' "$deploy/systemd/vstore-guests.service")
# shellcheck disable=SC2086 # its words
refused 8 'Nobody answers' "$VSTORECTL" ${ending/\/run\/vstore/$work}
if grep '^ProtectClock=yes' vstore-agent.service; then fail "the doctor cannot ask for the clock: systemd refuses adjtimex then"; fi
grep -q '^ExecReload=/bin/kill -USR2' vstored.service || fail "a reload of the unit does not hand over"
grep -q '^Type=notify' vstored.service || fail "systemd does not wait until vstored serves"
systemd-analyze security --offline=yes --threshold=20 ./vstored.service >security || fail "the unit is open: $(tail -n 1 security)"
stop_vstored
