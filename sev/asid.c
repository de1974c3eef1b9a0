/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/errno.h"
#include "core/string.h"
#include "sev/sev.h"

/*
 * Two pools in one table: 1..min-1 for SEV-ES guests, min..max for the others
 * (the processor refuses any other choice). A used ASID stays dirty until one
 * of its class is needed and no clean one is left; then one flush cleans all.
 */
enum { CLEAN, TAKEN, DIRTY };

static u8 state[SEV_ASID_MAX + 1];
static u32 limit_es, limit; /* first number behind each pool */

void sev_asid_init(u32 min, u32 max)
{
	limit = MIN(max, SEV_ASID_MAX) + 1;
	limit_es = MIN(MAX(min, 1U), limit);
	memset(state, CLEAN, sizeof(state));
}

static u32 first(bool es) { return es ? 1 : limit_es; }
static u32 behind(bool es) { return es ? limit_es : limit; }

static u32 find(bool es, u8 want)
{
	for (u32 i = first(es); i < behind(es); i++)
		if (state[i] == want)
			return i;
	return 0;
}

int sev_asid_alloc(bool es, u32 *asid)
{
	u32 i = find(es, CLEAN);
	int err;

	if (i == 0 && find(es, DIRTY) == 0)
		return -ENOSPC;
	if (i == 0) {
		err = sev_flush();
		if (err != 0)
			return err;
		for (u32 n = 1; n < limit; n++)
			if (state[n] == DIRTY)
				state[n] = CLEAN;
		i = find(es, CLEAN);
	}
	state[i] = TAKEN;
	*asid = i;
	return 0;
}

void sev_asid_free(u32 asid, bool used)
{
	if (asid != 0 && asid < limit && state[asid] == TAKEN)
		state[asid] = used ? DIRTY : CLEAN;
}

struct sev_asid_count sev_asid_count(bool es)
{
	struct sev_asid_count c = { 0, 0, 0 };

	for (u32 i = first(es); i < behind(es); i++) {
		c.taken += state[i] == TAKEN;
		c.clean += state[i] == CLEAN;
		c.dirty += state[i] == DIRTY;
	}
	return c;
}
