/* SPDX-License-Identifier: Apache-2.0 */
/* Verbs about the site's certificates: files only, no daemon is needed. */
#include "agent/ctl/verbs.h"

#include "agent/ctl/names.h"
#include "agent/ctl/pki.h"
#include "agent/ctl/table.h"
#include "proto/text.h"
#include "proto/units.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>

#define DAYS_USUAL 825u

static int days_of(const struct ctl *ctl, unsigned *ret_days)
{
	const char *text = ctl_option(ctl, "days");
	char *end;
	*ret_days = DAYS_USUAL;
	if (!text)
		return 0;
	unsigned long days = strtoul(text, &end, 10);
	if (*end || end == text || days < 1 || days > PKI_DAYS_MAX)
		return ctl_fail(ctl, CTL_USAGE,
				"A certificate is valid for 1 to %u days; --days is one of those.",
				PKI_DAYS_MAX);
	*ret_days = (unsigned)days;
	return 0;
}

static int failed(const struct ctl *ctl, int res, const char *sentence)
{
	return ctl_fail(ctl, ctl_exit_of_err(res), "%s", sentence);
}

int verb_pki_init(struct ctl *ctl)
{
	char sentence[SENTENCE_BYTES];
	const char *cluster = ctl_option(ctl, "cluster");
	if (!cluster)
		return ctl_fail(ctl, CTL_USAGE, "--cluster NAME is needed.");
	int res = pki_init(ctl->args[0], cluster, sentence);
	if (res < 0)
		return failed(ctl, res, sentence);
	ctl_say(ctl,
		"The CA of cluster %s is in %s. Keep ca.key offline or well guarded: who has it "
		"can join the cluster.",
		cluster, ctl->args[0]);
	return CTL_OK;
}

int verb_pki_import(struct ctl *ctl)
{
	char sentence[SENTENCE_BYTES];
	int res = pki_import(ctl->args[0], ctl->args[1], ctl->args[2], ctl_option(ctl, "cluster"),
			     sentence);
	if (res < 0)
		return failed(ctl, res, sentence);
	ctl_say(ctl, "The CA is in %s.", ctl->args[0]);
	return CTL_OK;
}

static int issue(struct ctl *ctl, bool replace)
{
	char sentence[SENTENCE_BYTES];
	unsigned days;
	int res = name_check(ctl, ctl->args[1]);
	if (res == 0)
		res = days_of(ctl, &days);
	if (res)
		return res;
	res = pki_issue(ctl->args[0], ctl->args[1], ctl->args[2], days, replace, sentence);
	if (res < 0)
		return failed(ctl, res, sentence);
	ctl_say(ctl, "%s holds the certificate of %s, valid for %u days%s", ctl->args[2],
		ctl->args[1], days,
		replace ? "; vstored takes it by itself, connections go on."
			: ". Copy the folder to that host and start vstored with --tls.");
	return CTL_OK;
}

int verb_pki_issue(struct ctl *ctl)
{
	return issue(ctl, false);
}

int verb_pki_rotate(struct ctl *ctl)
{
	return issue(ctl, true);
}

int verb_pki_revoke(struct ctl *ctl)
{
	char sentence[SENTENCE_BYTES];
	unsigned count;
	int exit_code;
	if (!ctl_confirm(ctl, ctl->args[1], "The host is shut out of the cluster.", &exit_code))
		return exit_code;
	int res = pki_revoke(ctl->args[0], ctl->args[1], &count, sentence);
	if (res < 0)
		return failed(ctl, res, sentence);
	ctl_say(ctl,
		"%u certificates of %s are revoked. Copy %s/ca.crl into the --tls folder of every "
		"other host: vstored there takes it by itself.",
		count, ctl->args[1], ctl->args[0]);
	return CTL_OK;
}

int verb_pki_show(struct ctl *ctl)
{
	char sentence[SENTENCE_BYTES], time_text[TIME_TEXT_BYTES];
	struct pki_certificate *all;
	unsigned count;
	int res = pki_show(ctl->args[0], &all, &count, sentence);
	if (res < 0)
		return failed(ctl, res, sentence);
	VALUE_AUTO document = value_object();
	struct value *rows = value_array();
	int64_t now_s = time(NULL);
	for (unsigned i = 0; i < count; i++) {
		const struct pki_certificate *certificate = &all[i];
		struct value *row = value_object();
		bool expired = certificate->not_after_s < now_s;
		value_set_text(row, "host", certificate->host);
		value_set_text(row, "cluster", certificate->cluster);
		value_set_text(row, "file", certificate->file);
		value_set_text(row, "serial", certificate->serial);
		text_time((uint64_t)certificate->not_after_s * NSEC_PER_SEC, time_text);
		value_set_text(row, "expires", time_text);
		value_set_integer(row, "days_left", (certificate->not_after_s - now_s) / 86400);
		value_set_text(row, "state",
			       certificate->revoked ? "revoked"
			       : expired	    ? "expired"
						    : "valid");
		value_append(rows, row);
	}
	value_set(document, "certificates", rows);
	free(all);
	return table_print_list(ctl, &table_certificates, document);
}
