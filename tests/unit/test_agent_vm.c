/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of vstore-agent that need neither libvirt nor vstored. */
#include "tests/unit/unit.h"

#include "agent/vm/db.h"
#include "agent/vm/domxml.h"
#include "agent/vm/op.h"
#include "agent/vm/port.h"
#include "agent/vm/program.h"
#include "agent/vm/seed.h"
#include "agent/vm/spec.h"

#include <errno.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

static int spec_of(const char *body_text, json_t **ret_spec, struct problem *problem)
{
	json_t *body = json_loads(body_text, 0, NULL);
	assert_non_null(body);
	*problem = (struct problem){0};
	int res = spec_new(body, ret_spec, problem);
	json_decref(body);
	return res;
}

static void what_a_user_gives_is_escaped(void **state)
{
	struct problem problem;
	json_t *spec = NULL;
	const struct domxml_host host = {.console_log = "/x/<y>&\"z\".log"};
	assert_int_equal(spec_of("{\"name\": \"web1\", \"cpu\": 3, \"memory_bytes\": 1073741824,"
				 " \"cdrom\": \"/a&b/<c>'\\\".iso\", \"disks\": [4096],"
				 " \"nics\": [{\"bridge\": \"br<0\"}]}",
				 &spec, &problem),
			 0);
	json_object_set_new(json_array_get(json_object_get(spec, "disks"), 0), "socket",
			    json_string("/run/a&b.sock"));
	char *xml = domxml_domain(spec, &host);
	assert_non_null(xml);
	assert_null(strstr(xml, "<c>"));
	assert_null(strstr(xml, "br<0"));
	assert_non_null(strstr(xml, "error_policy=\"stop\""));
	json_t *read = domxml_read(xml);
	assert_string_equal(spec_text(read, "name"), "web1");
	assert_string_equal(spec_text(read, "cpu"), "3");
	assert_string_equal(spec_text(json_array_get(json_object_get(read, "nics"), 0), "bridge"),
			    "br<0");
	json_decref(read);
	json_decref(spec);
	free(xml);
	assert_null(domxml_read("<domain"));
}

/* Each is a line of its own; what a VM has as well is not named. */
static void what_adopting_would_lose_is_named(void **state)
{
	static const char xml[] =
		"<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>"
		"<name>a</name><memory>1</memory><sysinfo type='smbios'/>"
		"<os><type>hvm</type><loader/><kernel>/vmlinuz</kernel></os>"
		"<clock offset='localtime'/><qemu:commandline><qemu:arg value='-x'/>"
		"</qemu:commandline><devices><emulator>/q</emulator>"
		"<disk type='file' device='disk'><driver type='raw'/><source file='/a'>"
		"<slices/><seclabel/></source><target dev='vda' bus='virtio'/><serial>7</serial>"
		"<readonly/><alias name='x'/><address/></disk>"
		"<disk type='block' device='lun'><source dev='/b'/><target dev='sdc'/></disk>"
		"<disk type='file' device='cdrom'><target dev='sda'/><readonly/></disk>"
		"<disk type='file' device='cdrom'><source file='/c.iso'/><target dev='sdb'/></disk>"
		"<disk type='file' device='cdrom'><source file='/d.iso'/><target dev='sdd'/></disk>"
		"<disk type='file' device='floppy'><target dev='fda'/></disk>"
		"<controller type='usb'/><input type='tablet'/><memballoon/><hostdev/><tpm/>"
		"<filesystem/><interface type='network'><mac address='52:54:00:00:00:01'/>"
		"<source network='lan' portgroup='p'/><vlan><tag id='5'/></vlan>"
		"<virtualport type='openvswitch'/><model type='e1000'/></interface>"
		"</devices></domain>";
	static const char *const want[] = {
		"slices of vda",
		"serial of vda",
		"readonly of vda",
		"lun of sdc",
		"CD of sdd",
		"floppy of fda",
		"hostdev",
		"tpm",
		"filesystem",
		"sysinfo",
		"commandline",
		"kernel",
		"offset of clock",
		"vlan of 52:54:00:00:00:01",
		"virtualport of 52:54:00:00:00:01",
		"portgroup of 52:54:00:00:00:01",
	};
	json_t *read = domxml_read(xml), *others = json_object_get(read, "others"), *one;
	size_t i, at;
	for (at = 0; at < sizeof want / sizeof *want; at++) {
		bool found = false;
		json_array_foreach(others, i, one)
			found |= strcmp(json_string_value(one), want[at]) == 0;
		if (!found)
			fail_msg("%s is not named", want[at]);
	}
	assert_int_equal(json_array_size(others), sizeof want / sizeof *want);
	assert_int_equal(json_array_size(json_object_get(read, "disks")), 1);
	assert_string_equal(json_string_value(json_array_get(json_object_get(read, "cdroms"), 0)),
			    "/c.iso");
	assert_string_equal(spec_text(json_array_get(json_object_get(read, "nics"), 0), "model"),
			    "e1000");
	json_decref(read);
}

static void wrong_values_are_refused_by_name(void **state)
{
	static const struct {
		const char *body, *word;
	} cases[] = {
		{"{\"name\": \"../etc\"}", "../etc"},
		{"{\"name\": \"a\", \"cpu\": 0}", "512"},
		{"{\"name\": \"a\", \"memory_bytes\": 1}", "64M"},
		{"{\"name\": \"a\", \"firmware\": \"coreboot\"}", "coreboot"},
		{"{\"name\": \"a\", \"accel\": \"xen\"}", "xen"},
		{"{\"name\": \"a\", \"disks\": [-1]}", "disks"},
		{"{\"name\": \"a\", \"disks\": [\"20G\"]}", "disks"},
		{"{\"name\": \"a\", \"nics\": [{}]}", "bridge"},
		{"{\"name\": \"a\", \"nics\": [{\"bridge\": \"b\", \"network\": \"n\"}]}",
		 "bridge"},
		{"{\"name\": \"a\", \"nics\": [{\"bridge\": \"b\", \"colour\": 1}]}", "colour"},
		{"{\"name\": \"a\", \"nics\": [{\"bridge\": \"b\", \"vlan\": 5000}]}", "4094"},
		{"{\"name\": \"a\", \"nics\": [{\"bridge\": \"b\", \"mac\": \"52:54\"}]}", "52:54"},
		{"{\"name\": \"a\", \"nics\": [{\"bridge\": \"b\", \"mac\": "
		 "\"01:00:5e:00:00:01\"}]}",
		 "01:00"},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct problem problem;
		json_t *spec = NULL;
		assert_int_equal(spec_of(cases[i].body, &spec, &problem), -EINVAL);
		if (!strstr(problem.sentence, cases[i].word))
			fail_msg("%s: %s", cases[i].body, problem.sentence);
		assert_null(spec);
	}
}

static void a_port_is_right_in_its_vlan_alone(void **state)
{
#define PORT_IS(vlans) "[{\"ifname\":\"vst525400000001\",\"vlans\":[" vlans "]}]"
#define VLAN_20 "{\"vlan\":20,\"flags\":[\"PVID\",\"Egress Untagged\"]}"
	static const struct {
		const char *said;
		bool right;
	} cases[] = {
		{PORT_IS(VLAN_20), true},
		{"[]", false}, /* on no bridge */
		{"", false},
		{PORT_IS(""), false},
		{PORT_IS(VLAN_20 ",{\"vlan\":1,\"flags\":[\"Egress Untagged\"]}"), false},
		{PORT_IS("{\"vlan\":1,\"flags\":[\"Egress Untagged\"]}," VLAN_20), false},
		{PORT_IS("{\"vlan\":1,\"flags\":[\"PVID\",\"Egress Untagged\"]}"), false},
		{PORT_IS("{\"vlan\":20,\"flags\":[\"PVID\"]}"), false},
		{PORT_IS("{\"vlan\":20,\"flags\":[\"Egress Untagged\"]}"), false},
		{PORT_IS("{\"vlan\":20,\"vlanEnd\":21,\"flags\":[\"PVID\",\"Egress Untagged\"]}"),
		 false},
		{PORT_IS("{\"vlan\":20}"), false},
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		assert_int_equal(port_vlan_only(cases[i].said, 20), cases[i].right);
}

/* libvirt is told to make nothing: neither a bridge's port nor a device. */
static void a_nic_with_a_port_is_given_that_alone(void **state)
{
	char port[PORT_NAME_ROOM];
	json_t *nic = json_pack("{s:s, s:s, s:s, s:i, s:s}", "mac", "52:54:00:00:00:0a", "bridge",
				"br0", "network", "", "vlan", 20, "port", "");
	char *xml = domxml_nic(nic);
	assert_non_null(strstr(xml, "openvswitch"));
	free(xml);
	port_name(spec_text(nic, "mac"), port);
	assert_string_equal(port, "vst52540000000a");
	json_object_set_new(nic, "port", json_string(port));
	xml = domxml_nic(nic);
	assert_non_null(strstr(xml, "type=\"ethernet\""));
	assert_non_null(strstr(xml, "<target dev=\"vst52540000000a\" managed=\"no\"/>"));
	assert_null(strstr(xml, "br0"));
	assert_null(strstr(xml, "vlan"));
	free(xml);
	json_decref(nic);
}

static void disks_get_the_first_free_target_and_name(void **state)
{
	struct problem problem;
	json_t *spec = NULL;
	char target[8], volume[80];
	assert_int_equal(spec_of("{\"name\": \"a\", \"disks\": [1, 8192, 4096]}", &spec, &problem),
			 0);
	json_t *disks = json_object_get(spec, "disks");
	assert_int_equal(spec_number(json_array_get(disks, 0), "size_bytes"), 4096);
	json_array_remove(disks, 1);
	assert_int_equal(spec_target_free(spec, target), 0);
	spec_volume_name(spec, volume, sizeof volume);
	assert_string_equal(target, "vdb");
	assert_string_equal(volume, "a-disk1");
	json_decref(spec);
}

static void a_private_key_is_no_ssh_key(void **state)
{
	struct problem problem = {0};
	json_t *good = json_pack("{s:s, s:[s]}", "user_data", "#cloud-config\n", "ssh_keys",
				 "ssh-ed25519 AAAA me");
	json_t *wrong = json_pack("{s:[s]}", "ssh_keys", "-----BEGIN OPENSSH PRIVATE KEY-----");
	json_t *ignored = json_pack("{s:s}", "user_data", "packages: [vim]");
	assert_int_equal(seed_check(good, &problem), 0);
	assert_int_equal(seed_check(wrong, &problem), -EINVAL);
	assert_int_equal(seed_check(ignored, &problem), -EINVAL);
	json_decref(good);
	json_decref(wrong);
	json_decref(ignored);
}

static void a_catalog_is_kept_and_one_of_tomorrow_refused(void **state)
{
	char path[] = "/tmp/vstore-test-db.XXXXXX", sentence[SENTENCE_BYTES], more[64];
	struct db *db;
	close(mkstemp(path));
	assert_int_equal(db_open(path, &db, sentence), 0);
	static const char insert[] = "INSERT INTO setting (key, value) VALUES (?, ?)";
	assert_int_equal(db_run(db, insert, "ss", "a", "1"), 1);
	assert_int_equal(db_run(db, insert, "ss", "a", "2"), -EEXIST);
	assert_int_equal(db_begin(db), 0);
	assert_int_equal(db_run(db, insert, "ss", "b", "1"), 1);
	assert_int_equal(db_end(db, false), 0);
	db_close(db);
	assert_int_equal(db_open(path, &db, sentence), 0);
	json_t *rows = db_rows(db, "SELECT * FROM setting", "");
	assert_int_equal(json_array_size(rows), 1);
	assert_string_equal(spec_text(json_array_get(rows, 0), "value"), "1");
	json_decref(rows);
	db_run(db, "PRAGMA user_version = 99", "");
	db_close(db);
	assert_int_equal(db_open(path, &db, sentence), -VS_ENEWER);
	FILE *file = fopen(path, "we");
	for (int i = 0; i < 500; i++)
		fputs("this is no catalog ", file);
	fclose(file);
	assert_int_equal(db_open(path, &db, sentence), -VS_EFORMAT);
	assert_non_null(strstr(sentence, "--recover"));
	unlink(path);
	static const char *const tails[] = {"-wal", "-shm"};
	for (size_t i = 0; i < 2; i++) {
		snprintf(more, sizeof more, "%s%s", path, tails[i]);
		unlink(more);
	}
}

/* As many as there are; autostart is true or 1 in older definitions, and false or missing. */
static void a_boot_has_its_order_however_many_there_are(void **state)
{
	struct agent agent = {0};
	char sentence[SENTENCE_BYTES], uuid[16], name[16];
	enum { COUNT = 1500 };
	assert_int_equal(db_open(":memory:", &agent.db, sentence), 0);
	assert_int_equal(db_begin(agent.db), 0);
	for (int i = 0; i < COUNT + 3; i++) {
		snprintf(uuid, sizeof uuid, "u%d", i);
		snprintf(name, sizeof name, "n%05d", COUNT + 3 - i);
		json_t *spec = json_pack("{s:b, s:i}", "autostart", i < COUNT, "order", i % 100);
		db_run(agent.db,
		       "INSERT INTO vm (uuid, name, state, generation, spec, created) VALUES (?, "
		       "?, "
		       "?, 1, ?, 0)",
		       "sssj", uuid, name, i == 7 ? "deleting" : "ready", spec);
		json_decref(spec);
	}
	assert_int_equal(db_end(agent.db, true), 0);
	json_t *all = vm_boot_order(&agent);
	assert_int_equal(json_array_size(all), COUNT - 1);
	int last = -1;
	for (size_t i = 0; i < json_array_size(all); i++) {
		int one = atoi(json_string_value(json_array_get(all, i)) + 1);
		if (i > 0) {
			assert_true(one % 100 >= last % 100);
			assert_true(one % 100 > last % 100 || one < last); /* by name */
		}
		last = one;
	}
	json_decref(all);
	db_close(agent.db);
}

static int step_ok(struct op *op)
{
	return 0;
}

static void *converge(void *state)
{
	op_converge(state);
	return NULL;
}

/* A deletion of the past waits for vstored, and an operation of a person, which was seen beside it,
 * ends in that time: it is done, and stays so. */
static void what_ends_meanwhile_is_not_undone(void **state)
{
	static const struct op_step steps[] = {{"one", step_ok, NULL}};
	static const struct op_kind kind = {"vm.set", steps, 1, 1};
	char folder[] = "/tmp/vstore-agent-XXXXXX", path[80], sentence[SENTENCE_BYTES];
	struct agent agent = {.lock = PTHREAD_MUTEX_INITIALIZER,
			      .changed = PTHREAD_COND_INITIALIZER};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct problem problem = {0};
	struct op *op = NULL;
	pthread_t thread;
	assert_non_null(mkdtemp(folder));
	snprintf(path, sizeof path, "%s/catalog.db", folder);
	assert_int_equal(db_open(path, &agent.db, sentence), 0);
	snprintf(address.sun_path, sizeof address.sun_path, "%s/storage.sock", folder);
	snprintf(agent.storage.socket, sizeof agent.storage.socket, "%s", address.sun_path);
	int storage = socket(AF_UNIX, SOCK_STREAM, 0);
	assert_int_equal(bind(storage, (struct sockaddr *)&address, sizeof address), 0);
	assert_int_equal(listen(storage, 1), 0);
	assert_true(db_run(agent.db,
			   "INSERT INTO operation (kind, object, state, step, data, error, uid, "
			   "created) VALUES ('image.delete', 'image old', 'running', 1, "
			   "'{\"volume\": \"old\"}', '', 0, 1)",
			   "") >= 0);
	assert_int_equal(op_new(&agent, &kind, "vm", "a", json_object(), 0, &op, &problem), 0);
	int64_t id = op->id;
	assert_int_equal(pthread_create(&thread, NULL, converge, &agent), 0);
	int asked = accept(storage, NULL, NULL); /* both rows are read */
	assert_true(asked >= 0);
	op_run(op);
	assert_int_equal(op->res, 0);
	op_free(op);
	close(storage);
	close(asked);
	pthread_join(thread, NULL);
	json_t *row = op_row(&agent, id);
	assert_string_equal(spec_text(row, "state"), "done");
	json_decref(row);
	db_close(agent.db);
	static const char *const names[] = {"catalog.db", "catalog.db-wal", "catalog.db-shm",
					    "storage.sock"};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", folder, names[i]);
		unlink(path);
	}
	rmdir(folder);
}

static void a_program_ends_with_its_time(void **state)
{
	char words[16];
	const char *const says[] = {"sh", "-c", "echo 0123456789abcdefghij; exit 3", NULL};
	const char *const hangs[] = {"sh", "-c", "sleep 1000", NULL};
	const char *const missing[] = {"/no/such/program", NULL};
	assert_int_equal(program_run(says, 60000, words, sizeof words), 3);
	assert_string_equal(words, "6789abcdefghij\n");
	assert_int_equal(program_run(hangs, 50, words, sizeof words), -ETIMEDOUT);
	assert_int_equal(program_run(missing, 60000, words, sizeof words), -ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_a_user_gives_is_escaped),
		cmocka_unit_test(what_adopting_would_lose_is_named),
		cmocka_unit_test(wrong_values_are_refused_by_name),
		cmocka_unit_test(a_port_is_right_in_its_vlan_alone),
		cmocka_unit_test(a_nic_with_a_port_is_given_that_alone),
		cmocka_unit_test(disks_get_the_first_free_target_and_name),
		cmocka_unit_test(a_private_key_is_no_ssh_key),
		cmocka_unit_test(a_catalog_is_kept_and_one_of_tomorrow_refused),
		cmocka_unit_test(a_boot_has_its_order_however_many_there_are),
		cmocka_unit_test(what_ends_meanwhile_is_not_undone),
		cmocka_unit_test(a_program_ends_with_its_time),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
