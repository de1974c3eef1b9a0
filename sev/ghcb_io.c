/* SPDX-License-Identifier: BSD-2-Clause */
#include "core/mmio.h"
#include "core/string.h"
#include "sev/ghcb_page.h"

/* Ports, device memory, and the scratch area that holds their data. */

/*
 * Bytes of one request. With version 2 the shared buffer bounds it anyway; with
 * version 1 the area may be anywhere in RAM, and the exit takes as long as it is
 * large, with interrupts off.
 */
#define SCRATCH_MAX (4 * PAGE_SIZE)

#define BUFFER_OFFSET offsetof(struct ghcb, shared_buffer)
_Static_assert(GHCB_BUFFER_SIZE % 8 == 0, "no element of a string lies across two pieces");

/* --- scratch ------------------------------------------------------------------------------ */

static bool all_ram(struct vm *vm, gpa_t gpa, size_t len)
{
	while (len != 0) {
		size_t part = len;

		if (vm_ram_ptr(vm, gpa, &part, true) == NULL)
			return false;
		gpa += part;
		len -= part;
	}
	return true;
}

/*
 * May the len bytes at SW_SCRATCH be used? In the GHCB's own page the shared
 * buffer alone is for data, with either version. No RAM is at an address with the
 * C-bit. len is at most SCRATCH_MAX.
 */
static bool scratch_valid(struct vcpu *v, const struct ghcb_call *c, u64 len)
{
	gpa_t gpa = c->copy->sw_scratch;
	u64 offset = gpa - c->gpa - BUFFER_OFFSET;

	if (offset <= GHCB_BUFFER_SIZE && len <= GHCB_BUFFER_SIZE - offset)
		return true;
	if (c->copy->protocol_version >= 2)
		return false;
	if (gpa < c->gpa + PAGE_SIZE && gpa + len > c->gpa)
		return false;
	return all_ram(v->vm, gpa, len);
}

/* The place in the GHCB's buffer, or NULL when the area is elsewhere. */
static u8 *in_buffer(const struct ghcb_call *c)
{
	u64 offset = c->copy->sw_scratch - c->gpa - BUFFER_OFFSET;

	return offset <= GHCB_BUFFER_SIZE ? c->page->shared_buffer + offset : NULL;
}

/* What was copied must not be read a second time from where the guest can change it. */
static inline void copied(void)
{
	__asm__ volatile("" ::: "memory");
}

/* len bytes at the offset of an area that scratch_valid() has passed. */
static void scratch_read(struct vcpu *v, const struct ghcb_call *c, u64 offset, void *to,
			 size_t len)
{
	const u8 *from = in_buffer(c);

	if (from != NULL)
		memcpy(to, from + offset, len);
	else
		(void)vm_memory_read(vm_host(v->vm), c->copy->sw_scratch + offset, to, len);
	copied();
}

static void scratch_write(struct vcpu *v, const struct ghcb_call *c, u64 offset, const void *from,
			  size_t len)
{
	u8 *to = in_buffer(c);

	if (to != NULL)
		memcpy(to + offset, from, len);
	else
		(void)vm_memory_write(vm_host(v->vm), c->copy->sw_scratch + offset, from, len);
}

/* --- ports: SW_EXITINFO1 as in EXITINFO1 of an intercepted instruction (APM vol. 2, 15.10.2) ----- */

#define IOIO_IN BIT(0)

/* False: not one of the three size bits. */
static bool decode(const struct ghcb_call *c, struct vexit_io *io)
{
	io->port = (u16)(c->info1 >> 16);
	io->size = c->info1 >> 4 & 7;
	io->in = (c->info1 & IOIO_IN) != 0;
	io->string = false;
	return io->size == 1 || io->size == 2 || io->size == 4;
}

u32 ghcb_port(struct vcpu *v, struct ghcb_call *c)
{
	if (!decode(c, &v->exit.io))
		return ghcb_refuse(c, GHCB_ERR_INPUT);
	v->gpr[GPR_RAX] = ghcb_get(c->copy, rax);
	return ghcb_dispatch(v, VEXIT_IO);
}

static void port_piece(struct vcpu *v, const struct vexit_io *io, u8 *data, size_t len)
{
	for (size_t i = 0; i < len; i += io->size) {
		u32 value = 0;

		if (io->in) {
			value = port_read(v, io->port, io->size);
			memcpy(data + i, &value, io->size);
		} else {
			memcpy(&value, data + i, io->size);
			port_write(v, io->port, io->size, value);
		}
	}
}

/* INS and OUTS. The guest has worked out addresses and direction: the data is in a row. */
u32 ghcb_string(struct vcpu *v, struct ghcb_call *c)
{
	u8 *piece = c->copy->shared_buffer;
	struct vexit_io io;
	u64 bytes;

	if (!decode(c, &io))
		return ghcb_refuse(c, GHCB_ERR_INPUT);
	if (c->info2 > SCRATCH_MAX / io.size)
		return ghcb_refuse(c, GHCB_ERR_SCRATCH);
	bytes = c->info2 * io.size;
	if (!scratch_valid(v, c, bytes))
		return ghcb_refuse(c, GHCB_ERR_SCRATCH);
	v->exits[VEXIT_IO]++;
	for (u64 done = 0; done < bytes; done += GHCB_BUFFER_SIZE) {
		size_t n = MIN(bytes - done, (u64)GHCB_BUFFER_SIZE);

		if (!io.in)
			scratch_read(v, c, done, piece, n);
		port_piece(v, &io, piece, n);
		if (io.in)
			scratch_write(v, c, done, piece, n);
	}
	return VRESULT_RETRY;
}

/* --- device memory ------------------------------------------------------------------------- */

/* GHCB_OK, or why the access of SW_EXITINFO2 bytes at SW_EXITINFO1 is not done. */
static u32 mmio_check(struct vcpu *v, const struct ghcb_call *c)
{
	gpa_t gpa = c->info1;
	u64 size = c->info2;
	size_t len = 1;

	if (size != 1 && size != 2 && size != 4 && size != 8)
		return GHCB_ERR_INPUT;
	if (!ghcb_gpa_valid(gpa) || (gpa & ~PAGE_MASK) + size > PAGE_SIZE)
		return GHCB_ERR_INPUT;
	/* RAM and ROM are the guest's to access itself, by its own key. */
	if (vm_ram_ptr(v->vm, gpa, &len, false) != NULL)
		return GHCB_ERR_INPUT;
	return scratch_valid(v, c, size) ? GHCB_OK : GHCB_ERR_SCRATCH;
}

u32 ghcb_mmio_read(struct vcpu *v, struct ghcb_call *c)
{
	u32 error = mmio_check(v, c);
	u64 value;

	if (error != GHCB_OK)
		return ghcb_refuse(c, error);
	v->exits[VEXIT_MMIO]++;
	value = mmio_read(v, c->info1, (u32)c->info2);
	scratch_write(v, c, 0, &value, c->info2);
	return VRESULT_RETRY;
}

u32 ghcb_mmio_write(struct vcpu *v, struct ghcb_call *c)
{
	u32 error = mmio_check(v, c);
	u64 value = 0;

	if (error != GHCB_OK)
		return ghcb_refuse(c, error);
	v->exits[VEXIT_MMIO]++;
	scratch_read(v, c, 0, &value, c->info2);
	mmio_write(v, c->info1, (u32)c->info2, value);
	return VRESULT_RETRY;
}
