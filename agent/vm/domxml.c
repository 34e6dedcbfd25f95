/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A domain's XML, written and read (domxml.h).
 *
 * Written: a *_fill makes what one device is, in a whole domain and alone, for attaching. Read:
 * what adopting takes over is known by name; whatever else stands there is named as "others", so
 * that nothing is lost in silence.
 *
 * Keeps true: every text goes through libxml2, which escapes it; nothing here prints XML.
 */
#include "agent/vm/domxml.h"

#include "agent/vm/spec.h"

#include <inttypes.h>
#include <libxml/parser.h>
#include <libxml/tree.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SPARE_PORTS 10 /* for disks and NICs that come while it runs */

static xmlNodePtr child(xmlNodePtr parent, const char *name)
{
	return xmlNewChild(parent, NULL, BAD_CAST name, NULL);
}
static xmlNodePtr child_text(xmlNodePtr parent, const char *name, const char *text)
{
	return xmlNewTextChild(parent, NULL, BAD_CAST name, BAD_CAST text);
}
static void prop(xmlNodePtr node, const char *name, const char *value)
{
	xmlNewProp(node, BAD_CAST name, BAD_CAST value);
}
static void prop_number(xmlNodePtr node, const char *name, int64_t value)
{
	char text[32];
	snprintf(text, sizeof text, "%" PRId64, value);
	prop(node, name, text);
}

static char *node_text(xmlNodePtr root)
{
	xmlDocPtr document = xmlNewDoc(BAD_CAST "1.0");
	xmlBufferPtr buffer = xmlBufferCreate();
	char *text = NULL;
	xmlDocSetRootElement(document, root);
	if (xmlNodeDump(buffer, document, root, 0, 1) > 0)
		text = strdup((const char *)xmlBufferContent(buffer));
	xmlBufferFree(buffer);
	xmlFreeDoc(document);
	return text;
}

void domxml_alias(const char *name, char *out, size_t room)
{
	size_t n = (size_t)snprintf(out, room, "ua-");
	for (; *name && n + 1 < room; name++)
		out[n++] = *name == ':' ? '-' : *name;
	out[n] = 0;
}

static void alias_add(xmlNodePtr device, const char *name)
{
	char alias[64];
	domxml_alias(name, alias, sizeof alias);
	prop(child(device, "alias"), "name", alias);
}

/* ---- disks ---- */

static void nbd_source(xmlNodePtr disk, const char *socket)
{
	xmlNodePtr source = child(disk, "source"), address;
	prop(source, "protocol", "nbd");
	address = child(source, "host");
	prop(address, "transport", "unix");
	prop(address, "socket", socket);
}

/* 20 characters, all that virtio has room for. */
static void serial_add(xmlNodePtr disk, const char *uuid)
{
	char serial[21];
	size_t n = 0;
	for (; *uuid && n < 20; uuid++)
		if (*uuid != '-')
			serial[n++] = *uuid;
	serial[n] = 0;
	child_text(disk, "serial", serial);
}

static void disk_fill(xmlNodePtr disk, const json_t *spec)
{
	const char *name = spec_text(spec, "target");
	xmlNodePtr driver, target;
	prop(disk, "type", "network");
	prop(disk, "device", "disk");
	driver = child(disk, "driver");
	prop(driver, "name", "qemu");
	prop(driver, "type", "raw");
	prop(driver, "cache", "none");
	prop(driver, "error_policy", "stop");
	prop(driver, "rerror_policy", "stop");
	prop(driver, "discard", "unmap");
	prop(driver, "detect_zeroes", "unmap");
	prop(driver, "iothread", "1");
	nbd_source(disk, spec_text(spec, "socket"));
	target = child(disk, "target");
	prop(target, "dev", name);
	prop(target, "bus", "virtio");
	serial_add(disk, spec_text(spec, "uuid"));
	alias_add(disk, name);
}

static void seed_fill(xmlNodePtr disk, const json_t *spec)
{
	xmlNodePtr driver, target;
	prop(disk, "type", "network");
	prop(disk, "device", "cdrom");
	driver = child(disk, "driver");
	prop(driver, "name", "qemu");
	prop(driver, "type", "raw");
	nbd_source(disk, spec_text(spec, "socket"));
	target = child(disk, "target");
	prop(target, "dev", "sda");
	prop(target, "bus", "scsi"); /* cloud kernels have virtio alone */
	child(disk, "readonly");
	alias_add(disk, "seed");
}

static void cdrom_fill(xmlNodePtr disk, const char *path)
{
	xmlNodePtr driver, target;
	prop(disk, "type", "file");
	prop(disk, "device", "cdrom");
	driver = child(disk, "driver");
	prop(driver, "name", "qemu");
	prop(driver, "type", "raw");
	if (path && *path) {
		xmlNodePtr source = child(disk, "source"), label;
		prop(source, "file", path);
		/* Several VMs may read one ISO: it must not become the user's of one of them. */
		label = child(source, "seclabel");
		prop(label, "model", "dac");
		prop(label, "relabel", "no");
	}
	target = child(disk, "target");
	prop(target, "dev", "sdb");
	prop(target, "bus", "sata");
	child(disk, "readonly");
	alias_add(disk, "cdrom");
}

char *domxml_disk(const json_t *disk)
{
	xmlNodePtr node = xmlNewNode(NULL, BAD_CAST "disk");
	disk_fill(node, disk);
	return node_text(node);
}

char *domxml_cdrom(const char *path)
{
	xmlNodePtr node = xmlNewNode(NULL, BAD_CAST "disk");
	cdrom_fill(node, path);
	return node_text(node);
}

/* ---- networks ---- */

static void nic_fill(xmlNodePtr nic, const json_t *spec)
{
	const char *bridge = spec_text(spec, "bridge"), *network = spec_text(spec, "network");
	const char *port = spec_text(spec, "port");
	int64_t vlan = spec_number(spec, "vlan");
	prop(nic, "type", *port ? "ethernet" : *bridge ? "bridge" : "network");
	prop(child(nic, "mac"), "address", spec_text(spec, "mac"));
	if (*port) { /* port.h: made, kept and removed by the agent */
		xmlNodePtr target = child(nic, "target");
		prop(target, "dev", port);
		prop(target, "managed", "no");
	} else {
		prop(child(nic, "source"), *bridge ? "bridge" : "network",
		     *bridge ? bridge : network);
	}
	if (vlan && !*port) {
		prop_number(child(child(nic, "vlan"), "tag"), "id", vlan);
		if (*bridge)
			prop(child(nic, "virtualport"), "type", "openvswitch");
	}
	prop(child(nic, "model"), "type", "virtio");
	alias_add(nic, spec_text(spec, "mac"));
}

char *domxml_nic(const json_t *spec)
{
	xmlNodePtr nic = xmlNewNode(NULL, BAD_CAST "interface");
	nic_fill(nic, spec);
	return node_text(nic);
}

/* ---- the domain ---- */

static void domain_head(xmlNodePtr domain, const json_t *spec, const struct domxml_host *host)
{
	char number[32];
	xmlNodePtr node, mine;
	prop(domain, "type", host->kvm ? "kvm" : "qemu");
	child_text(domain, "name", spec_text(spec, "name"));
	child_text(domain, "uuid", spec_text(spec, "uuid"));
	node = child(domain, "metadata");
	mine = xmlNewChild(node, NULL, BAD_CAST "vm", NULL);
	xmlSetNs(mine, xmlNewNs(mine, BAD_CAST "urn:vstore:agent", BAD_CAST "vstore"));
	prop_number(mine, "generation", spec_number(spec, "generation"));
	snprintf(number, sizeof number, "%" PRId64, spec_number(spec, "memory_bytes") / 1024);
	node = child_text(domain, "memory", number);
	prop(node, "unit", "KiB");
	snprintf(number, sizeof number, "%" PRId64, spec_number(spec, "cpu"));
	child_text(domain, "vcpu", number);
	child_text(domain, "iothreads", "1");
}

static void domain_machine(xmlNodePtr domain, const json_t *spec, const struct domxml_host *host)
{
	xmlNodePtr os = child(domain, "os"), node;
	bool uefi = strcmp(spec_text(spec, "firmware"), "uefi") == 0;
	if (uefi)
		prop(os, "firmware", "efi");
	node = child_text(os, "type", "hvm");
	prop(node, "arch", "x86_64");
	prop(node, "machine", "q35");
	if (uefi) { /* unsigned loaders are common: secure boot is for who asks for it */
		xmlNodePtr feature = child(child(os, "firmware"), "feature");
		prop(feature, "enabled", "no");
		prop(feature, "name", "secure-boot");
	}
	prop(child(os, "boot"), "dev", "hd");
	prop(child(os, "boot"), "dev", "cdrom");
	node = child(domain, "features");
	child(node, "acpi");
	child(node, "apic");
	prop(child(domain, "cpu"), "mode", host->kvm ? "host-passthrough" : "maximum");
	prop(child(domain, "clock"), "offset", "utc");
	child_text(domain, "on_poweroff", "destroy");
	child_text(domain, "on_reboot", "restart");
	child_text(domain, "on_crash", "destroy");
}

static void devices_ports(xmlNodePtr devices, size_t count)
{
	for (size_t i = 0; i <= count; i++) {
		xmlNodePtr port = child(devices, "controller");
		prop(port, "type", "pci");
		prop_number(port, "index", (int64_t)i);
		prop(port, "model", i ? "pcie-root-port" : "pcie-root");
	}
	xmlNodePtr scsi = child(devices, "controller");
	prop(scsi, "type", "scsi");
	prop(scsi, "index", "0");
	prop(scsi, "model", "virtio-scsi");
}

static void devices_fixed(xmlNodePtr devices, const json_t *spec, const struct domxml_host *host)
{
	xmlNodePtr node = child(devices, "serial"), log, target;
	prop(node, "type", "pty");
	if (host->console_log) {
		log = child(node, "log");
		prop(log, "file", host->console_log);
		prop(log, "append", "on");
	}
	prop(child(node, "target"), "port", "0");
	node = child(devices, "channel");
	prop(node, "type", "unix");
	target = child(node, "target");
	prop(target, "type", "virtio");
	prop(target, "name", "org.qemu.guest_agent.0");
	node = child(devices, "rng");
	prop(node, "model", "virtio");
	prop(child_text(node, "backend", "/dev/urandom"), "model", "random");
	prop(child(devices, "memballoon"), "model", "virtio");
	node = child(devices, "graphics");
	prop(node, "type", "vnc");
	prop(child(node, "listen"), "type", "socket");
	prop(child(child(devices, "video"), "model"), "type", "vga");
	if (json_is_true(json_object_get(spec, "tpm"))) {
		node = child(devices, "tpm");
		prop(node, "model", "tpm-crb");
		node = child(node, "backend");
		prop(node, "type", "emulator");
		prop(node, "version", "2.0");
	}
}

/* A user of its own: what one QEMU may open, another may not. */
static void domain_user(xmlNodePtr domain, const json_t *spec, const struct domxml_host *host)
{
	char text[48];
	int64_t uid = spec_number(spec, "uid");
	if (!uid)
		return;
	xmlNodePtr label = child(domain, "seclabel");
	prop(label, "type", "static");
	prop(label, "model", "dac");
	prop(label, "relabel", "yes");
	snprintf(text, sizeof text, "+%" PRId64 ":+%" PRIu32, uid, host->gid);
	child_text(label, "label", text);
}

char *domxml_domain(const json_t *spec, const struct domxml_host *host)
{
	xmlNodePtr domain = xmlNewNode(NULL, BAD_CAST "domain"), devices;
	const json_t *disks = json_object_get(spec, "disks"), *nics = json_object_get(spec, "nics");
	const json_t *seed = json_object_get(spec, "seed");
	size_t i;
	json_t *one;
	domain_head(domain, spec, host);
	domain_machine(domain, spec, host);
	devices = child(domain, "devices");
	devices_ports(devices, json_array_size(disks) + json_array_size(nics) + SPARE_PORTS);
	json_array_foreach(disks, i, one)
		disk_fill(child(devices, "disk"), one);
	if (json_is_object(seed))
		seed_fill(child(devices, "disk"), seed);
	cdrom_fill(child(devices, "disk"), spec_text(spec, "cdrom"));
	json_array_foreach(nics, i, one)
		nic_fill(child(devices, "interface"), one);
	devices_fixed(devices, spec, host);
	domain_user(domain, spec, host);
	return node_text(domain);
}

/* ---- reading ---- */

static xmlNodePtr find(xmlNodePtr parent, const char *name)
{
	for (xmlNodePtr node = parent ? parent->children : NULL; node; node = node->next)
		if (node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0)
			return node;
	return NULL;
}

static xmlNodePtr find_next(xmlNodePtr node)
{
	const char *name = (const char *)node->name;
	for (node = node->next; node; node = node->next)
		if (node->type == XML_ELEMENT_NODE && strcmp((const char *)node->name, name) == 0)
			return node;
	return NULL;
}

static char *get(xmlNodePtr node, const char *name)
{
	return node ? (char *)xmlGetProp(node, BAD_CAST name) : NULL;
}

static bool get_is(xmlNodePtr node, const char *name, const char *value)
{
	char *text = get(node, name);
	bool same = text && strcmp(text, value) == 0;
	xmlFree(text);
	return same;
}

static json_t *get_json(xmlNodePtr node, const char *name)
{
	char *text = get(node, name);
	json_t *out = json_string(text ? text : "");
	xmlFree(text);
	return out;
}

static json_t *content_json(xmlNodePtr node)
{
	xmlChar *text = node ? xmlNodeGetContent(node) : NULL;
	json_t *out = json_string(text ? (const char *)text : "");
	xmlFree(text);
	return out;
}

static xmlDocPtr parse(const char *xml)
{
	return xmlReadMemory(xml, (int)strlen(xml), "domain.xml", NULL,
			     XML_PARSE_NONET | XML_PARSE_NOERROR | XML_PARSE_NOWARNING);
}

/* The property of the first element that the path of names leads to. */
static char *lookup(const char *xml, const char *device, const char *type, const char *inner,
		    const char *name)
{
	xmlDocPtr document = parse(xml);
	char *out = NULL;
	if (!document)
		return NULL;
	xmlNodePtr node = find(find(xmlDocGetRootElement(document), "devices"), device);
	while (node && !get_is(node, "type", type))
		node = find_next(node);
	if (node) {
		char *text = get(find(node, inner), name);
		out = text ? strdup(text) : NULL;
		xmlFree(text);
	}
	xmlFreeDoc(document);
	return out;
}

char *domxml_console(const char *xml)
{
	return lookup(xml, "serial", "pty", "source", "path");
}

char *domxml_vnc(const char *xml)
{
	return lookup(xml, "graphics", "vnc", "listen", "socket");
}

/* What a VM has as well, and what its guest does not miss. All else of a domain is named. */
static const char *const known_devices[] = {
	"emulator", "disk",	  "interface", "controller", "input",	"graphics", "video",
	"audio",    "sound",	  "serial",    "console",    "channel", "hub",	    "rng",
	"panic",    "memballoon", "redirdev",  "watchdog",   NULL,
};
static const char *const known_of_disk[] = {
	"driver", "source", "target", "alias", "address", "boot", "backingStore", NULL,
};
static const char *const known_of_source[] = {"seclabel", NULL};
static const char *const known_of_nic[] = {
	"mac", "source", "model", "target", "alias", "address", "boot", "driver", NULL,
};
/* Of the domain itself, where most is about its place on the host. */
static const char *const lost_of_domain[] = {"launchSecurity", "sysinfo", "commandline"};
static const char *const lost_of_os[] = {"kernel", "initrd", "cmdline", "dtb"};

static void others_add(json_t *out, const char *what, const char *of)
{
	json_array_append_new(json_object_get(out, "others"),
			      *of ? json_sprintf("%s of %s", what, of) : json_string(what));
}

static void others_read(xmlNodePtr parent, const char *const *known, const char *of, json_t *out)
{
	for (xmlNodePtr node = parent ? parent->children : NULL; node; node = node->next) {
		size_t i = 0;
		while (known[i] && strcmp((const char *)node->name, known[i]) != 0)
			i++;
		if (node->type == XML_ELEMENT_NODE && !known[i])
			others_add(out, (const char *)node->name, of);
	}
}

static void lost_read(xmlNodePtr parent, const char *const *names, size_t count, json_t *out)
{
	for (size_t i = 0; i < count; i++)
		if (find(parent, names[i]))
			others_add(out, names[i], "");
}

/* One CD in a file is taken over; empty drives are not missed, since a VM has one. */
static void read_cdrom(xmlNodePtr source, const char *target, json_t *out)
{
	json_t *cdroms = json_object_get(out, "cdroms"), *path = get_json(source, "file");
	if (!source) {
		json_decref(path);
	} else if (!*json_string_value(path) || json_array_size(cdroms)) {
		others_add(out, "CD", target);
		json_decref(path);
	} else {
		json_array_append_new(cdroms, path);
	}
}

static void read_disk(xmlNodePtr disk, json_t *out)
{
	xmlNodePtr source = find(disk, "source");
	json_t *one = json_object(), *target = get_json(find(disk, "target"), "dev");
	const char *name = json_string_value(target);
	json_object_set_new(one, "target", target);
	if (get_is(disk, "device", "cdrom")) {
		read_cdrom(source, name, out);
		json_decref(one);
		return;
	}
	if (get_is(disk, "device", "floppy") || get_is(disk, "device", "lun")) {
		others_add(out, get_is(disk, "device", "lun") ? "lun" : "floppy", name);
		json_decref(one);
		return;
	}
	others_read(disk, known_of_disk, name, out);
	others_read(source, known_of_source, name, out);
	json_object_set_new(one, "type", get_json(disk, "type"));
	json_object_set_new(one, "bus", get_json(find(disk, "target"), "bus"));
	json_object_set_new(one, "format", get_json(find(disk, "driver"), "type"));
	char *file = get(source, "file");
	json_object_set_new(one, "path", get_json(source, file ? "file" : "dev"));
	xmlFree(file);
	json_array_append_new(json_object_get(out, "disks"), one);
}

static void read_nic(xmlNodePtr nic, json_t *out)
{
	xmlNodePtr source = find(nic, "source");
	json_t *one = json_pack("{s:o, s:o, s:o, s:o, s:o}", "type", get_json(nic, "type"), "mac",
				get_json(find(nic, "mac"), "address"), "model",
				get_json(find(nic, "model"), "type"), "bridge",
				get_json(source, "bridge"), "network", get_json(source, "network"));
	const char *mac = json_string_value(json_object_get(one, "mac"));
	char *group = get(source, "portgroup");
	others_read(nic, known_of_nic, mac, out);
	if (group)
		others_add(out, "portgroup", mac);
	xmlFree(group);
	json_array_append_new(json_object_get(out, "nics"), one);
}

json_t *domxml_read(const char *xml)
{
	xmlDocPtr document = parse(xml);
	if (!document)
		return NULL;
	xmlNodePtr domain = xmlDocGetRootElement(document), node;
	xmlNodePtr devices = find(domain, "devices");
	xmlNodePtr clock = find(domain, "clock");
	json_t *out = json_pack("{s:[], s:[], s:[], s:[]}", "disks", "cdroms", "nics", "others");
	json_object_set_new(out, "type", get_json(domain, "type"));
	json_object_set_new(out, "name", content_json(find(domain, "name")));
	json_object_set_new(out, "uuid", content_json(find(domain, "uuid")));
	json_object_set_new(out, "cpu", content_json(find(domain, "vcpu")));
	json_object_set_new(out, "memory_kib", content_json(find(domain, "memory")));
	json_object_set_new(
		out, "firmware",
		json_string(find(find(domain, "os"), "loader") ||
					    get_is(find(domain, "os"), "firmware", "efi")
				    ? "uefi"
				    : "bios"));
	for (node = find(devices, "disk"); node; node = find_next(node))
		read_disk(node, out);
	for (node = find(devices, "interface"); node; node = find_next(node))
		read_nic(node, out);
	others_read(devices, known_devices, "", out);
	lost_read(domain, lost_of_domain, sizeof lost_of_domain / sizeof *lost_of_domain, out);
	lost_read(find(domain, "os"), lost_of_os, sizeof lost_of_os / sizeof *lost_of_os, out);
	if (clock && !get_is(clock, "offset", "utc"))
		others_add(out, "offset", "clock");
	xmlFreeDoc(document);
	return out;
}
