/* SPDX-License-Identifier: BSD-2-Clause */
#include "drivers/psp/psp.h"

/* Status codes (SEV API specification, chapter 4) in words, with what to do about them. */
static const struct {
	const char *name, *remedy;
} words[] = {
	[0x00] = { "SUCCESS", "" },
	[0x01] = { "INVALID_PLATFORM_STATE", "use `psp down`, then `psp up`" },
	[0x02] = { "INVALID_GUEST_STATE", "the guest's launch is at another step" },
	[0x03] = { "INVALID_CONFIG", "the memory given is not RAM the processor can protect" },
	[0x04] = { "INVALID_LEN", "a length is not what this firmware expects" },
	[0x05] = { "ALREADY_OWNED", "reset the platform's owner in firmware setup first" },
	[0x06] = { "INVALID_CERTIFICATE", "check the owner's certificate file" },
	[0x07] = { "POLICY_FAILURE", "the guest's policy forbids it; check its policy" },
	[0x08] = { "INACTIVE", "the guest has no ASID" },
	[0x09] = { "INVALID_ADDRESS", "an address is misaligned, or not RAM" },
	[0x0a] = { "BAD_SIGNATURE", "the data was not signed by its owner" },
	[0x0b] = { "BAD_MEASUREMENT",
		   "not made with these keys, for this policy or for this launch; make it anew" },
	[0x0c] = { "ASID_OWNED", "the ASID is another guest's" },
	[0x0d] = { "INVALID_ASID", "set the number of SEV-ES ASIDs in firmware setup" },
	[0x0e] = { "WBINVD_REQUIRED", "a CPU has not written back its caches" },
	[0x0f] = { "DFFLUSH_REQUIRED", "the ASID was used since the last flush" },
	[0x10] = { "INVALID_GUEST", "the processor does not know this guest" },
	[0x11] = { "INVALID_COMMAND", "update the SEV firmware" },
	[0x12] = { "ACTIVE", "the guest still has its ASID" },
	[0x13] = { "HWERROR_PLATFORM",
		   "memory encryption is off on a CPU or memory controller; enable SMEE in firmware "
		   "setup" },
	[0x14] = { "HWERROR_UNSAFE", "the hardware is damaged; power off" },
	[0x15] = { "UNSUPPORTED", "not offered by this firmware as it was initialised" },
	[0x16] = { "INVALID_PARAM", "a parameter is not what this firmware expects" },
	[0x17] = { "RESOURCE_LIMIT", "stop another SEV guest, or use `psp down` and `psp up`" },
	[0x18] = { "SECURE_DATA_INVALID", "stored keys were damaged; the next try makes new ones" },
};

const char *psp_status_name(u32 status)
{
	return status < ARRAY_SIZE(words) ? words[status].name : "?";
}

const char *psp_status_remedy(u32 status)
{
	return status < ARRAY_SIZE(words) ? words[status].remedy : "update the SEV firmware";
}
