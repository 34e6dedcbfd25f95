/* SPDX-License-Identifier: Apache-2.0 */
/* All that vstorectl can do. The parser, the help and the completion know nothing else. */
#include "agent/ctl/args.h"

#include "agent/ctl/verbs.h"

#include <stddef.h>

#define CHANGE COMMAND_ASYNC
#define ASKS (COMMAND_DANGEROUS | COMMAND_DRY_RUN | COMMAND_ASYNC)

/* noun, verb, handler, arguments, options, synopsis, help, example, flags */
const struct command commands[] = {
	{"status", NULL, verb_status, "", "", "",
	 "One screen: what is wrong and what to do about it, and how full the store is.",
	 "vstorectl status", 0},

	{"store", "status", verb_store_status, "", "", "",
	 "Figures of the store: space, log, memory.", "vstorectl store status -o json", 0},
	{"store", "check", verb_store_check, "", "", "",
	 "Reads every record and every root's tree and reports damage. Exit 11 when there is some.",
	 "vstorectl store check --async", CHANGE},
	{"store", "scrub", verb_store_scrub, "", "deep", "[--deep]",
	 "Verifies the checksum of every stored byte now, beside what goes on by itself, and names "
	 "what damage affects. --deep decodes every record and makes its id anew as well, as the "
	 "scrub that goes on by itself does in its 30 days.",
	 "vstorectl store scrub --async", CHANGE},
	{"store", "gc", verb_store_gc, "", "recompress", "[--recompress]",
	 "Frees the space that nothing refers to any more. --recompress compresses all that is "
	 "stored anew as well, as happens by itself with what is a week old: now, however young "
	 "it is, with a whole core, and then it is smaller by 6 % and read as fast.",
	 "vstorectl store gc --recompress --async", CHANGE},
	{"store", "upgrade", verb_store_upgrade, "", "", "",
	 "Adds to the store's format what it lacks, being older: the one way in which a format "
	 "changes. Versions of vstored that do not know it cannot open the store afterwards.",
	 "vstorectl store upgrade --dry-run", COMMAND_DRY_RUN},
	{"store", "forecast", verb_store_forecast, "", "", "",
	 "In how many days the store is full, by its own history, and how sure that is.",
	 "vstorectl store forecast", 0},

	{"volume", "create", verb_volume_create, "n", "size= level= quota= frame= replicas= mode=",
	 "NAME --size S [--level N] [--quota S] [--frame S] [--replicas N] [--mode sync|async]",
	 "Makes an empty volume. It takes space only for what is written. The size is rounded up "
	 "to "
	 "4 KiB; --level is zstd's (1 is fast); --quota bounds what it may take; --frame is the "
	 "unit of compression: 4K, 8K, 16K (else) or 64K. Archives are smallest with 64K and "
	 "level 3. --replicas is how many hosts have it, this one included: the others are the "
	 "first peers that it knows, and follow as 'replica add' with this --mode says.",
	 "vstorectl volume create web1-disk0 --size 20G", CHANGE},
	{"volume", "list", verb_volume_list, "", "", "", "All volumes.",
	 "vstorectl volume list --sort -used", 0},
	{"volume", "show", verb_volume_show, "v", "", "NAME", "All about one volume.",
	 "vstorectl volume show web1-disk0", 0},
	{"volume", "grow", verb_volume_grow, "vw", "", "NAME SIZE",
	 "Makes a volume larger; the new part reads as zeros. Volumes never shrink.",
	 "vstorectl volume grow web1-disk0 40G", CHANGE},
	{"volume", "rename", verb_volume_rename, "vn", "", "NAME NEW",
	 "Gives a volume another name. Its snapshots go with it.",
	 "vstorectl volume rename web1-disk0 web2-disk0", CHANGE},
	{"volume", "set", verb_volume_set, "vw", "", "NAME KEY=VALUE",
	 "Changes level (of zstd), quota (a size, 0 for none) or frame (4K, 8K, 16K, 64K: the unit "
	 "of "
	 "compression). Level and frame hold for what is written from now on. Also what its "
	 "clients "
	 "may do, at once: iops, bandwidth (bytes a second), 0 for no limit, and burst (for how "
	 "long "
	 "what they did not use is saved up).",
	 "vstorectl volume set web1-disk0 quota=30G", CHANGE},
	{"volume", "delete", verb_volume_delete, "v", "", "NAME",
	 "Moves a volume and its snapshots to the trash. The name is free at once.",
	 "vstorectl volume delete web1-disk0 --yes", ASKS},
	{"volume", "import", verb_volume_import, "fn", "format= level= quota= frame= allow-backing",
	 "FILE NAME [--format F] [--level N] [--quota S] [--frame S] [--allow-backing]",
	 "Makes a volume from an image file. Raw images are read directly, holes and zeros are "
	 "left "
	 "out; qcow2, vmdk, vdi, vhdx and others go through qemu-img. An image that refers to "
	 "other "
	 "files is refused without --allow-backing. When it fails, the new volume goes to the "
	 "trash.",
	 "vstorectl volume import debian-12.qcow2 web1-disk0", COMMAND_DRY_RUN},
	{"volume", "export", verb_volume_export, "rf", "", "NAME[@SNAP] FILE",
	 "Writes a volume or snapshot as a sparse raw image. Export a snapshot to get one moment "
	 "of "
	 "a volume in use. An existing FILE is replaced only with --yes.",
	 "vstorectl volume export web1-disk0@monday web1.img", COMMAND_DRY_RUN},
	{"volume", "clone", verb_volume_clone, "sn", "", "NAME@SNAP NEW",
	 "Makes a new volume that begins as the snapshot and shares its data.",
	 "vstorectl volume clone web1-disk0@monday test-disk0", CHANGE},
	{"volume", "verify", verb_volume_verify, "r", "", "NAME[@SNAP]",
	 "Reads all data of a volume or snapshot and checks it against its ids. Exit 11 for "
	 "damage.",
	 "vstorectl volume verify web1-disk0@monday", CHANGE},

	{"volume", "attachments", verb_volume_attachments, "v?", "", "[NAME]",
	 "Who has a volume: its holder, and how many connections there are.",
	 "vstorectl volume attachments web1-disk0", 0},

	{"volume", "fence", verb_volume_fence, "v", "", "NAME",
	 "Breaks the lease of whoever has a volume: its connections are cut, and when this ends no "
	 "write of it can land any more. For a holder that is lost or hangs; a guest that runs "
	 "sees "
	 "its disk fail.",
	 "vstorectl volume fence web1-disk0 --yes", COMMAND_DANGEROUS | COMMAND_DRY_RUN},

	{"vm", "create", verb_vm_create, "n",
	 "image= cpu= memory= disk=+ net=+ user-data= ssh-key=+ firmware= accel= cdrom= tpm "
	 "no-start",
	 "NAME [--image I] [--cpu N] [--memory S] [--disk S]... [--net NET]... [--user-data F] "
	 "[--ssh-key F]... [--firmware bios|uefi] [--accel auto|kvm|tcg] [--cdrom ISO] [--tpm] "
	 "[--no-start]",
	 "Makes a VM and starts it. Its first disk is a clone of the image, as large as the first "
	 "--disk. NET is bridge=B,vlan=N,mac=M or network=N, or none; without it the VM is on "
	 "libvirt's network called default if that is active. A VLAN needs Open vSwitch, or a "
	 "bridge that keeps VLANs apart (ip link set B type bridge vlan_filtering 1).",
	 "vstorectl vm create web1 --image debian12 --cpu 2 --memory 2G --disk 20G --ssh-key "
	 "~/.ssh/id_ed25519.pub",
	 CHANGE},
	{"vm", "list", verb_vm_list, "", "", "", "All VMs, with their state.",
	 "vstorectl vm list -o wide", 0},
	{"vm", "show", verb_vm_show, "w", "", "NAME", "All about one VM.", "vstorectl vm show web1",
	 0},
	{"vm", "start", verb_vm_start, "w", "", "NAME", "Starts a VM.", "vstorectl vm start web1",
	 0},
	{"vm", "shutdown", verb_vm_shutdown, "w?", "all deadline=", "NAME | --all [--deadline DUR]",
	 "Presses the VM's power button (ACPI) and waits until it has ended by itself. With --all: "
	 "every VM's, those that a boot starts last first; who has not ended within its share of "
	 "the time (5m) loses its power. The unit vstore-guests does that when the host goes down.",
	 "vstorectl vm shutdown web1 --timeout 2m", 0},
	{"vm", "stop", verb_vm_stop, "w", "", "NAME",
	 "Takes the VM's power away. What it has not written is lost.",
	 "vstorectl vm stop web1 --yes", COMMAND_DANGEROUS | COMMAND_DRY_RUN},
	{"vm", "reboot", verb_vm_reboot, "w", "", "NAME", "Asks the guest to reboot.",
	 "vstorectl vm reboot web1", 0},
	{"vm", "reset", verb_vm_reset, "w", "", "NAME",
	 "Presses the reset button. What the guest has not written is lost.",
	 "vstorectl vm reset web1 --yes", COMMAND_DANGEROUS | COMMAND_DRY_RUN},
	{"vm", "pause", verb_vm_pause, "w", "", "NAME", "Stops the VM's clock until vm resume.",
	 "vstorectl vm pause web1", 0},
	{"vm", "resume", verb_vm_resume, "w", "", "NAME", "Lets a paused VM go on.",
	 "vstorectl vm resume web1", 0},
	{"vm", "delete", verb_vm_delete, "w", "", "NAME",
	 "Deletes a VM that is off. Its own disks go to the trash, volumes that were only attached "
	 "stay.",
	 "vstorectl vm delete web1 --yes", ASKS},
	{"vm", "rename", verb_vm_rename, "wn", "", "NAME NEW",
	 "Gives a VM that is off another name, and its disks with it.",
	 "vstorectl vm rename web1 web2", CHANGE},
	{"vm", "clone", verb_vm_clone, "wn", "start", "NAME NEW [--start]",
	 "Makes a VM whose disks begin as those of another, at one moment. It gets a name, a UUID "
	 "and "
	 "MAC addresses of its own.",
	 "vstorectl vm clone web1 test1 --start", CHANGE},
	{"vm", "adopt", verb_vm_adopt, "w", "", "DOMAIN",
	 "Makes a VM of an existing libvirt domain that is off. Its disks (raw or qcow2 files, "
	 "virtio) are copied into volumes; name, UUID and MAC addresses stay. The old files are "
	 "left where they are. When it fails, the domain is as it was.",
	 "vstorectl vm adopt oldweb", CHANGE},
	{"vm", "set", verb_vm_set, "ww+", "", "NAME KEY=VALUE...",
	 "Changes cpu, memory, autostart (yes or no), order and delay (seconds) of starting after "
	 "a "
	 "boot of the host.",
	 "vstorectl vm set web1 memory=4G autostart=yes", 0},
	{"vm", "wait", verb_vm_wait, "w", "for=", "NAME [--for running|stopped|paused|agent]",
	 "Waits until the VM is so, or until its guest agent answers.",
	 "vstorectl vm wait web1 --for agent --timeout 5m", 0},
	{"vm", "console", verb_vm_console, "w", "", "NAME",
	 "The VM's serial console on this terminal. Ctrl-] ends it.", "vstorectl vm console web1",
	 0},
	{"vm", "vnc", verb_vm_vnc, "w", "", "NAME", "Where a VNC client finds the VM's screen.",
	 "vstorectl vm vnc web1", 0},
	{"vm", "log", verb_vm_log, "w", "", "NAME",
	 "What the VM has printed on its serial console.", "vstorectl vm log web1", 0},
	{"vm", "why", verb_vm_why, "w", "", "NAME", "The one cause of a VM that does not go on.",
	 "vstorectl vm why web1", 0},

	{"vm disk", "attach", verb_vm_disk_attach, "w", "size= volume=", "VM --size S|--volume V",
	 "Gives a VM one more disk, also while it runs.",
	 "vstorectl vm disk attach web1 --size 50G", CHANGE},
	{"vm disk", "detach", verb_vm_disk_detach, "ww", "", "VM DISK",
	 "Takes a disk away, also while the VM runs; done when the guest has let go. The volume "
	 "stays.",
	 "vstorectl vm disk detach web1 vdb", CHANGE},
	{"vm disk", "list", verb_vm_disk_list, "w", "", "VM", "The disks of a VM.",
	 "vstorectl vm disk list web1", 0},
	{"vm disk", "grow", verb_vm_disk_grow, "www", "", "VM DISK SIZE",
	 "Makes a disk larger. A guest that runs sees it at once (it stands still for a moment); "
	 "partition and file system grow from inside.",
	 "vstorectl vm disk grow web1 vda 40G", CHANGE},
	{"vm nic", "attach", verb_vm_nic_attach, "ww", "", "VM NET",
	 "Gives a VM one more NIC, also while it runs. NET is bridge=B,vlan=N,mac=M or "
	 "network=N,mac=M; without a MAC address one is made. With a VLAN its port alone is put "
	 "there, untagged; the host's networks stay as they are.",
	 "vstorectl vm nic attach web1 bridge=br0,vlan=20", CHANGE},
	{"vm nic", "detach", verb_vm_nic_detach, "ww", "", "VM MAC",
	 "Takes a NIC away, also while the VM runs; done when the guest has let go.",
	 "vstorectl vm nic detach web1 52:54:00:12:34:56", CHANGE},
	{"vm nic", "list", verb_vm_nic_list, "w", "", "VM", "The NICs of a VM.",
	 "vstorectl vm nic list web1", 0},
	{"vm disk", "set-qos", verb_vm_disk_set_qos, "ww",
	 "iops= bandwidth= burst=", "VM DISK [--iops N] [--bandwidth S] [--burst DUR]",
	 "Limits what a guest may do with a disk, at once: requests and bytes a second (0: no "
	 "limit), "
	 "and for how long what it did not use is saved up.",
	 "vstorectl vm disk set-qos web1 vda --iops 500 --bandwidth 50M --burst 10s", 0},
	{"vm snap", "create", verb_vm_snap_create, "wn", "", "VM SNAP",
	 "A snapshot of all disks at one moment; with the guest's file systems frozen when its "
	 "agent "
	 "answers.",
	 "vstorectl vm snap create web1 before-upgrade", CHANGE},
	{"vm snap", "list", verb_vm_snap_list, "w", "", "VM", "The snapshots of a VM.",
	 "vstorectl vm snap list web1", 0},
	{"vm snap", "restore", verb_vm_snap_restore, "ww", "", "VM SNAP",
	 "All disks of a VM that is off become the snapshot again.",
	 "vstorectl vm snap restore web1 before-upgrade", ASKS},
	{"vm snap", "delete", verb_vm_snap_delete, "ww", "", "VM SNAP",
	 "Moves the snapshot's members to the trash.",
	 "vstorectl vm snap delete web1 before-upgrade --yes", ASKS},
	{"vm cdrom", "insert", verb_vm_cdrom_insert, "wf", "", "VM ISO",
	 "Puts a CD into the drive.", "vstorectl vm cdrom insert win1 /srv/iso/virtio-win.iso", 0},
	{"vm cdrom", "eject", verb_vm_cdrom_eject, "w", "", "VM", "Empties the drive.",
	 "vstorectl vm cdrom eject win1", 0},

	{"image", "import", verb_image_import, "fn", "format= allow-backing",
	 "FILE NAME [--format F] [--allow-backing]",
	 "Makes an image that VMs are cloned from: raw files are read directly, qcow2, vmdk and "
	 "others "
	 "go through qemu-img.",
	 "vstorectl image import debian-12-genericcloud-amd64.qcow2 debian12", COMMAND_DRY_RUN},
	{"image", "list", verb_image_list, "", "", "", "All images.", "vstorectl image list", 0},
	{"image", "show", verb_image_show, "w", "", "NAME", "All about one image.",
	 "vstorectl image show debian12", 0},
	{"image", "verify", verb_image_verify, "w", "", "NAME",
	 "Reads all data of an image and checks it against its ids. Exit 11 for damage.",
	 "vstorectl image verify debian12", CHANGE},
	{"image", "delete", verb_image_delete, "w", "", "NAME",
	 "Moves an image to the trash. VMs that were made from it stay.",
	 "vstorectl image delete debian12 --yes", ASKS},

	{"network", "list", verb_network_list, "", "", "", "libvirt's networks.",
	 "vstorectl network list", 0},
	{"events", NULL, verb_events, "", "since=", "[--since CURSOR]",
	 "What happens, as it happens; with --since what came after, once.",
	 "vstorectl events --since 120", 0},
	{"audit", "list", verb_audit_list, "", "", "", "Who changed what, the newest first.",
	 "vstorectl audit list --filter uid=0", 0},
	{"audit", "verify", verb_audit_verify, "", "", "",
	 "Checks that no line of the audit log was changed, added or taken away. Exit 11 when one "
	 "was.",
	 "vstorectl audit verify", 0},
	{"doctor", NULL, verb_doctor, "", "", "",
	 "Looks at all that VMs need on this host, and says how to mend what is wrong.",
	 "vstorectl doctor", 0},

	{"support-bundle", NULL, verb_support_bundle, "f?", "", "[FILE]",
	 "Writes a tar file with what somebody who helps needs to see: status, lists, jobs, "
	 "events, "
	 "findings, figures, versions. No data of volumes, no guest's console, no keys. Without "
	 "FILE it is vstore-support-TIME.tar here.",
	 "vstorectl support-bundle /tmp/web-host-3.tar", 0},

	{"snap", "create", verb_snap_create, "r+", "", "VOL[@SNAP]...",
	 "Takes snapshots, all of them at the same moment. Without @SNAP the name is the time, "
	 "UTC.",
	 "vstorectl snap create db-disk0@before db-disk1@before", CHANGE},
	{"snap", "list", verb_snap_list, "v?", "", "[VOL]", "The snapshots of one volume, or all.",
	 "vstorectl snap list web1-disk0", 0},
	{"snap", "show", verb_snap_show, "s", "", "VOL@SNAP", "All about one snapshot.",
	 "vstorectl snap show web1-disk0@monday", 0},
	{"snap", "delete", verb_snap_delete, "s+", "", "VOL@SNAP...",
	 "Moves snapshots to the trash. Exit 9 when only some of them went.",
	 "vstorectl snap delete web1-disk0@monday", ASKS},
	{"snap", "diff", verb_snap_diff, "rr", "", "A B",
	 "The ranges where two volumes or snapshots differ, by their maps. Exit 10 when they do.",
	 "vstorectl snap diff web1-disk0@monday web1-disk0@tuesday", CHANGE},
	{"snap", "restore", verb_snap_restore, "s", "", "VOL@SNAP",
	 "The volume becomes the snapshot again. What it held since is lost, unless you take a "
	 "snapshot first. The volume must not be in use.",
	 "vstorectl snap restore web1-disk0@monday", ASKS},
	{"snap", "hold", verb_snap_hold, "ws", "", "TAG VOL@SNAP",
	 "Forbids deleting the snapshot until the tag is released.",
	 "vstorectl snap hold audit-2026 web1-disk0@monday", CHANGE},
	{"snap", "release", verb_snap_release, "ws", "", "TAG VOL@SNAP", "Takes a hold away.",
	 "vstorectl snap release audit-2026 web1-disk0@monday", CHANGE},
	{"snap", "holds", verb_snap_holds, "s", "", "VOL@SNAP", "The tags that hold a snapshot.",
	 "vstorectl snap holds web1-disk0@monday", 0},
	{"snap", "retain", verb_snap_retain, "s", "until=", "VOL@SNAP --until DATE",
	 "Forbids deleting the snapshot before a date: RFC 3339, or a day (its start in UTC).",
	 "vstorectl snap retain archive@2026 --until 2036-01-31", CHANGE},

	{"trash", "list", verb_trash_list, "", "", "",
	 "What was deleted and can still be had back.", "vstorectl trash list", 0},
	{"trash", "restore", verb_trash_restore, "t", "as=", "ID [--as NEW]",
	 "Takes something out of the trash again, under its old name or another.",
	 "vstorectl trash restore 12 --as web1-disk0-old", CHANGE},
	{"trash", "purge", verb_trash_purge, "t", "", "ID",
	 "Deletes something in the trash for good. It cannot be had back.",
	 "vstorectl trash purge 12", ASKS},

	{"policy", "set", verb_policy_set, "w",
	 "every= keep-last= keep-hourly= keep-daily= keep-weekly= keep-monthly= keep-yearly= "
	 "send-to= "
	 "limit= window=",
	 "P [--every DUR] [--keep-last N] [--keep-hourly N] [--keep-daily N] [--keep-weekly N] "
	 "[--keep-monthly N] [--keep-yearly N] [--send-to HOST[,HOST]... [--limit SIZE] [--window "
	 "HH:MM-HH:MM]]",
	 "Makes a policy, or gives it other rules: how often a snapshot of each of its volumes is "
	 "taken, and which are kept. The newest of each of the last N hours, days and so on that "
	 "have one is kept, by UTC; what no rule keeps goes to the trash. Held snapshots, those "
	 "with a date to come and those that the policy did not take stay. What is not given is "
	 "0; rules that keep nothing need --yes. With --send-to each of its snapshots is sent to "
	 "these "
	 "peers (3 at most), as 'replica send' would; what was missed follows, oldest first, as "
	 "far as "
	 "the rules keep it here. Nothing is deleted there, nor sent again when it was. --limit "
	 "and "
	 "--window: bytes a second, and in which hours, as for 'replica set'; where HOST has an "
	 "async "
	 "replica of the volume, those of the replica count.",
	 "vstorectl policy set daily --every 1d --keep-daily 7 --keep-weekly 4", ASKS},
	{"policy", "list", verb_policy_list, "", "", "", "All policies.", "vstorectl policy list",
	 0},
	{"policy", "show", verb_policy_show, "p", "", "P", "All about one policy.",
	 "vstorectl policy show daily", 0},
	{"policy", "delete", verb_policy_delete, "p", "", "P",
	 "Deletes a policy that no volume has. Its snapshots stay, and nothing removes them.",
	 "vstorectl policy delete daily --yes", ASKS},
	{"policy", "attach", verb_policy_attach, "pv", "", "P VOL",
	 "The volume has this policy from now on, in place of another. On a copy (HOST/VOL) one "
	 "without --every takes nothing: of what was received and some policy took (its name ends "
	 "in -YYYYMMDD-HHMMSSZ, of that time) what its rules do not keep goes to the trash; the "
	 "newest stays in any case. With --dry-run: the table of what would be kept, by which "
	 "rule, and removed.",
	 "vstorectl policy attach archive host1/web1-disk0 --dry-run", ASKS},
	{"policy", "detach", verb_policy_detach, "pv", "", "P VOL",
	 "The volume has no policy any more. Its snapshots stay.",
	 "vstorectl policy detach daily web1-disk0", CHANGE},
	{"policy", "run", verb_policy_run, "p", "", "P",
	 "Takes a snapshot of each of the policy's volumes now (without --every, copies left out), "
	 "and moves those to the trash that no rule keeps. With --dry-run: the table of what would "
	 "be kept, by which rule, and "
	 "removed.",
	 "vstorectl policy run daily --dry-run", COMMAND_DRY_RUN | COMMAND_ASYNC},

	{"job", "list", verb_job_list, "", "", "", "Long work: under way, and what ended lately.",
	 "vstorectl job list --filter state=running", 0},
	{"job", "show", verb_job_show, "j", "", "ID", "All about one job.", "vstorectl job show 7",
	 0},
	{"job", "wait", verb_job_wait, "j", "", "ID",
	 "Waits for a job's end and returns as the verb that began it would have.",
	 "vstorectl job wait 7 --timeout 1h", 0},
	{"job", "cancel", verb_job_cancel, "j", "", "ID", "Ends a job before it is done.",
	 "vstorectl job cancel 7", 0},

	{"peer", "add", verb_peer_add, "nw", "", "HOST ADDRESS",
	 "Makes another host known: HOST is the name in its certificate, ADDRESS its ADDRESS:PORT.",
	 "vstorectl peer add host2 10.1.0.2:7410", CHANGE},
	{"peer", "list", verb_peer_list, "", "", "", "The hosts that are known.",
	 "vstorectl peer list", 0},
	{"peer", "show", verb_peer_show, "w", "", "HOST", "Where one host is.",
	 "vstorectl peer show host2", 0},
	{"peer", "delete", verb_peer_delete, "w", "", "HOST",
	 "Forgets a host. The copies that it has stay there.", "vstorectl peer delete host2", ASKS},
	{"replica", "send", verb_replica_send, "sw", "limit=", "VOL@SNAP HOST [--limit SIZE]",
	 "Sends a snapshot to a peer, which has it as THISHOST/VOL@SNAP then. Only what the peer "
	 "lacks goes over the wire; after a cut it goes on by itself. --limit is bytes a "
	 "second.",
	 "vstorectl replica send web1-disk0@monday host2", CHANGE},
	{"replica", "list", verb_replica_list, "", "", "",
	 "The volumes here that are copies of another host's.", "vstorectl replica list", 0},
	{"replica", "add", verb_replica_add, "vw",
	 "mode= on-missing= max-lag= max-lag-bytes= limit= window=",
	 "VOL HOST [--mode sync|async] [--on-missing wait|degrade] [--max-lag TIME] "
	 "[--max-lag-bytes SIZE] [--limit SIZE] [--window HH:MM-HH:MM]",
	 "HOST, a peer, follows the volume from now on, also while it is in use: it has it as "
	 "THISHOST/VOL, whole, and never older than --max-lag (30s). With --mode sync it gets each "
	 "write at once, and a guest's flush ends when all before it is there, however long that "
	 "takes; with --on-missing degrade only until a majority of the voters has written down "
	 "that HOST is left out: this host with two such copies, or with one and a witness (see "
	 "replica witness). Given again, the rules change. --limit and --window: see replica set.",
	 "vstorectl replica add web1-disk0 host2 --max-lag 10s", CHANGE},
	{"replica", "set", verb_replica_set, "v",
	 "to= limit= window=", "VOL [--to HOST] [--limit SIZE] [--window HH:MM-HH:MM|always]",
	 "Changes how fast, or in which hours of the day, an async replica is sent what it lacks, "
	 "also "
	 "while that goes on; nothing else changes. --limit is bytes a second, 0 for none; hours "
	 "are "
	 "by this host's local time, and outside of them it waits, as 'replica status' says. "
	 "Without "
	 "--to: the only replica that the volume has.",
	 "vstorectl replica set web1-disk0 --to host2 --limit 20M --window 22:00-06:00", CHANGE},
	{"replica", "remove", verb_replica_remove, "vw", "", "VOL HOST",
	 "HOST follows the volume no more. The copy that it has stays there.",
	 "vstorectl replica remove web1-disk0 host2", CHANGE},
	{"replica", "status", verb_replica_status, "", "", "",
	 "What each replica has for certain, how far it is behind, and how much would be lost if "
	 "this host died now; then the copies here of other hosts' volumes: each has at least what "
	 "was written before AS_OF.",
	 "vstorectl replica status -o wide", 0},
	{"replica", "promote", verb_replica_promote, "v", "as= accept-loss",
	 "HOST/VOL [--as NAME] [--accept-loss]",
	 "Makes a volume of a copy, to be used here in place of the one on HOST, which must be "
	 "stopped. Where the volume has voters, a majority of them is asked, and nothing that was "
	 "promised is lost; else, without --accept-loss, it says what would be. From then on "
	 "nothing of HOST's is taken for it, and HOST, if it is a peer, is to have a copy again: "
	 "when it returns and its volume is not in use, that becomes THISHOST/VOL and is brought "
	 "up to date; what only HOST has is its snapshot fenced-EPOCH.",
	 "vstorectl replica promote host1/web1-disk0 --accept-loss", ASKS},
	{"replica", "recover", verb_replica_recover, "v", "as=", "HOST/VOL [--as NAME]",
	 "Makes a copy that HOST sent back a volume of this host again, with all its snapshots, as "
	 "the newest of them has it, and the policy that it had: for a host that lost its disks. A "
	 "policy of that name that is here already is taken as it is. Nothing of the store that "
	 "was "
	 "lost is taken for it any more.",
	 "vstorectl replica recover host2/web1-disk0", CHANGE},
	{"replica witness", "add", verb_witness_add, "vw", "", "VOL HOST",
	 "HOST, a peer without a copy, is a witness of the volume: it, this host and all that have "
	 "it in step vote. From three on, a majority of them decides who may go on alone.",
	 "vstorectl replica witness add web1-disk0 host3", CHANGE},
	{"replica witness", "remove", verb_witness_remove, "vw", "accept-loss",
	 "VOL HOST [--accept-loss]",
	 "HOST votes no more. With --accept-loss also when no majority is there to write it down: "
	 "only when the others are gone for good.",
	 "vstorectl replica witness remove web1-disk0 host3", CHANGE},
	{"replica witness", "list", verb_witness_list, "", "", "",
	 "The voters of the volumes here: whether each knows the last change, and agrees that this "
	 "host is the primary.",
	 "vstorectl replica witness list", 0},
	{"replica", "transfers", verb_replica_transfers, "", "", "",
	 "Connections with other hosts and what goes over them.", "vstorectl replica transfers", 0},
	{"domain", "list", verb_domain_list, "", "", "",
	 "Domains: sets of volumes that share chunks and keys.", "vstorectl domain list", 0},

	{"pki", "init", verb_pki_init, "f", "cluster=", "CADIR --cluster NAME",
	 "Makes the site's certificate authority in a folder. No daemon is needed.",
	 "vstorectl pki init /root/ca --cluster thainguyen", 0},
	{"pki", "import", verb_pki_import, "fff", "cluster=", "CADIR CERT KEY [--cluster NAME]",
	 "Takes an existing CA's certificate and key (PEM) as the site's.",
	 "vstorectl pki import /root/ca corp.crt corp.key", 0},
	{"pki", "issue", verb_pki_issue, "fnf", "days=", "CADIR HOST OUTDIR [--days N]",
	 "Makes a host's key and certificate. OUTDIR is what vstored takes as --tls.",
	 "vstorectl pki issue /root/ca host2 /root/host2-tls", 0},
	{"pki", "rotate", verb_pki_rotate, "fnf", "days=", "CADIR HOST OUTDIR [--days N]",
	 "Replaces a host's key and certificate by new ones; the old one stays valid until it is "
	 "revoked or expires, and sessions go on.",
	 "vstorectl pki rotate /root/ca host2 /root/host2-tls", 0},
	{"pki", "revoke", verb_pki_revoke, "fw", "", "CADIR HOST",
	 "Revokes all valid certificates of a host.", "vstorectl pki revoke /root/ca host2",
	 COMMAND_DANGEROUS | COMMAND_DRY_RUN},
	{"pki", "show", verb_pki_show, "f", "", "DIR",
	 "The certificates of a CA's or a host's folder, and when they expire.",
	 "vstorectl pki show /root/ca", 0},

	{"version", NULL, verb_version, "", "", "", "Versions of this tool and of the daemon.",
	 "vstorectl version", 0},
	{"completion", NULL, verb_completion, "w", "", "bash|zsh|fish",
	 "A script that teaches the shell all of this.",
	 "vstorectl completion bash > /etc/bash_completion.d/vstorectl", 0},
	{"api", NULL, verb_api, "www?", "", "METHOD PATH [JSON]",
	 "Sends one request of the control API and prints the reply as it came.",
	 "vstorectl api GET /v1/volumes", 0},
	{NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, 0},
};
