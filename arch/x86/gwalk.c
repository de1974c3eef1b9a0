/* SPDX-License-Identifier: BSD-2-Clause */
#include "arch/x86/gwalk.h"

#include "arch/x86/cpu.h"
#include "arch/x86/msr.h"
#include "core/errno.h"
#include "core/vm.h"

#define PTE_P BIT(0)
#define PTE_W BIT(1)
#define PTE_U BIT(2)
#define PTE_A BIT(5)
#define PTE_D BIT(6)
#define PTE_PS BIT(7)
#define PTE_NX BIT(63)
#define PTE_ADDR 0x000ffffffffff000UL

#define CPUID_ADDR_LEAF 8   /* 0x80000008, EAX[7:0]: physical address bits */
#define CPUID_1G_PAGES 26   /* 0x80000001, EDX */
#define LEVELS_MAX 5
#define WALK_TRIES 8        /* walks that lost a race with another CPU before giving up */

/* One walk: the format of the tables and what has been found. */
struct walk {
	struct vcpu *v;
	const struct gwalk_ctx *ctx;
	u8 levels;      /* 2 to 5 */
	u8 entry_size;  /* 4 or 8 */
	u8 index_bits;  /* 10 or 9 */
	bool pae_root;  /* the top level is a PDPT of legacy PAE: no rights, no accessed bit */
	bool long_mode;
	u8 phys_bits;
	bool user, write, nx; /* rights so far */
	u8 depth;             /* entries seen */
	gpa_t entry_gpa[LEVELS_MAX];
	u64 entry[LEVELS_MAX];
};

int guest_mode_of(struct vcpu *v, enum insn_mode *mode)
{
	struct vsegment cs;
	u64 efer;

	if (virt->get_seg(v, VSEG_CS, &cs))
		return -EACCES;
	if (cs.attr & VSEG_ATTR_L) {
		/* The bit means nothing until long mode is active. */
		if (virt->get_reg(v, VREG_EFER, &efer))
			return -EACCES;
		if (efer & EFER_LMA) {
			*mode = INSN_MODE_64;
			return 0;
		}
	}
	*mode = (cs.attr & VSEG_ATTR_DB) ? INSN_MODE_32 : INSN_MODE_16;
	return 0;
}

int gwalk_load(struct vcpu *v, struct gwalk_ctx *ctx)
{
	enum insn_mode mode;
	u64 cpl = 0;

	if (virt->get_reg(v, VREG_CR0, &ctx->cr0) || virt->get_reg(v, VREG_CR3, &ctx->cr3) ||
	    virt->get_reg(v, VREG_CR4, &ctx->cr4) || virt->get_reg(v, VREG_EFER, &ctx->efer) ||
	    virt->get_reg(v, VREG_RFLAGS, &ctx->rflags) || virt->get_reg(v, VREG_CPL, &cpl) ||
	    guest_mode_of(v, &mode))
		return -EACCES;
	ctx->cpl = (u8)cpl;
	ctx->mode = (u8)mode;
	return 0;
}

static void walk_format(struct walk *w)
{
	const struct gwalk_ctx *c = w->ctx;
	u32 bits = w->v->cpuid.ext[CPUID_ADDR_LEAF].eax & 0xff;

	w->phys_bits = (u8)(bits < 32 || bits > 52 ? 36 : bits);
	w->long_mode = (c->efer & EFER_LMA) != 0;
	w->pae_root = !w->long_mode && (c->cr4 & CR4_PAE);
	w->entry_size = w->long_mode || w->pae_root ? 8 : 4;
	w->index_bits = w->entry_size == 8 ? 9 : 10;
	w->levels = w->long_mode ? ((c->cr4 & CR4_LA57) ? 5 : 4) : w->pae_root ? 3 : 2;
}

static gpa_t walk_root(const struct walk *w)
{
	if (w->long_mode)
		return w->ctx->cr3 & PTE_ADDR;
	return w->ctx->cr3 & (w->pae_root ? 0xffffffe0UL : 0xfffff000UL);
}

static int read_entry(struct walk *w, gpa_t gpa, u64 *entry)
{
	size_t len = w->entry_size;
	void *p = vm_ram_ptr(w->v->vm, gpa, &len, false);

	if (!p || len < w->entry_size)
		return -EIO;
	*entry = w->entry_size == 8 ? __atomic_load_n((u64 *)p, __ATOMIC_RELAXED)
				    : __atomic_load_n((u32 *)p, __ATOMIC_RELAXED);
	return 0;
}

/* Does this entry map a page instead of naming the next table? */
static bool is_leaf(const struct walk *w, u8 level, u64 entry)
{
	if (level == 1)
		return true;
	if (!(entry & PTE_PS))
		return false;
	if (w->entry_size == 4)
		return (w->ctx->cr4 & CR4_PSE) != 0;
	return level == 2 || (level == 3 && w->long_mode);
}

/* Bits that must be zero in a present entry of this level: APM vol. 2, 5.3 to 5.4. */
static u64 reserved_bits(const struct walk *w, u8 level, bool leaf)
{
	u64 mask, high = PTE_ADDR & ~(BIT(w->phys_bits) - 1);

	if (w->entry_size == 4) {
		if (!leaf || level == 1)
			return 0;
		/* 4 MiB page: bits 20:13 are address bits 39:32, bit 21 is reserved. */
		mask = BIT(21);
		if (w->phys_bits < 40)
			mask |= (BIT(40 - w->phys_bits) - 1) << (w->phys_bits - 32 + 13);
		return mask;
	}
	mask = high;
	/* Bit 5 is reserved too, but QEMU's TCG marks these entries accessed in guest memory. */
	if (w->pae_root && level == 3)
		return mask | 0x1c6UL | (0xfffUL << 52);
	if (!w->long_mode)
		mask |= 0x7ffUL << 52;
	if (!(w->ctx->efer & EFER_NXE))
		mask |= PTE_NX;
	if (level >= 4)
		mask |= PTE_PS;
	if (leaf && level == 3 && !cpuid_has(w->v, 0x80000001, 3, CPUID_1G_PAGES))
		mask |= PTE_PS;
	if (leaf && level > 1) /* bit 12 is PAT */
		mask |= (BIT(PAGE_SHIFT + 9 * (level - 1)) - 1) & ~0x1fffUL;
	return mask;
}

static u32 access_error(const struct walk *w, u32 access)
{
	bool fetch_bit = (w->entry_size == 8 && (w->ctx->efer & EFER_NXE)) ||
			 (w->ctx->cr4 & CR4_SMEP);
	u32 error = 0;

	if (access & VACCESS_WRITE)
		error |= PF_WRITE;
	if (w->ctx->cpl == 3 && !(access & GACCESS_SYSTEM))
		error |= PF_USER;
	if ((access & VACCESS_EXEC) && fetch_bit)
		error |= PF_FETCH;
	return error;
}

/* The rights of the whole walk against the access: APM vol. 2, 5.6. */
static bool allowed(const struct walk *w, u32 access)
{
	const struct gwalk_ctx *c = w->ctx;
	bool system = (access & GACCESS_SYSTEM) != 0;
	bool exec = (access & VACCESS_EXEC) != 0;

	if (exec && w->nx)
		return false;
	if (c->cpl == 3 && !system)
		return w->user && (w->write || !(access & VACCESS_WRITE));
	if ((access & VACCESS_WRITE) && !w->write && (c->cr0 & CR0_WP))
		return false;
	if (!w->user)
		return true;
	if (exec)
		return !(c->cr4 & CR4_SMEP);
	return !(c->cr4 & CR4_SMAP) || (!system && (c->rflags & RFLAGS_AC));
}

static gpa_t leaf_address(const struct walk *w, u8 level, u64 entry, gva_t gva)
{
	u64 size = BIT(PAGE_SHIFT + w->index_bits * (level - 1));
	gpa_t frame = entry & PTE_ADDR;

	if (w->entry_size == 4 && level == 2)
		frame |= ((entry >> 13) & 0xff) << 32;
	return (frame & ~(size - 1)) | (gva & (size - 1));
}

/* Sets bits of a table entry unless it has changed since it was read. */
static bool update_entry(struct walk *w, u32 i, u64 bits)
{
	size_t len = w->entry_size;
	u64 old = w->entry[i];
	u32 old32 = (u32)old;
	void *p;

	if ((old & bits) == bits)
		return true;
	p = vm_ram_ptr(w->v->vm, w->entry_gpa[i], &len, true);
	if (!p || len < w->entry_size)
		return true; /* tables in ROM keep what they have */
	if (w->entry_size == 8)
		return __atomic_compare_exchange_n((u64 *)p, &old, old | bits, false,
						   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
	return __atomic_compare_exchange_n((u32 *)p, &old32, old32 | (u32)bits, false,
					   __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* Accessed bits on the way, dirty at its end: APM vol. 2, 5.4.2. */
static bool update_accessed(struct walk *w, u32 access)
{
	for (u32 i = 0; i < w->depth; i++) {
		u64 bits = PTE_A;

		if (w->pae_root && i == 0)
			continue;
		if (i + 1U == w->depth && (access & VACCESS_WRITE))
			bits |= PTE_D;
		if (!update_entry(w, i, bits))
			return false;
	}
	return true;
}

/* Reads one level at *table; 0 with *table the next one, 1 at the leaf, or -EFAULT, -EIO. */
static int walk_level(struct walk *w, u8 level, gva_t gva, gpa_t *table, u32 *pf_error)
{
	u32 shift = PAGE_SHIFT + w->index_bits * (level - 1U);
	u64 index = (gva >> shift) & (BIT(w->index_bits) - 1);
	gpa_t gpa = *table + index * w->entry_size;
	u64 entry;
	bool leaf;

	if (read_entry(w, gpa, &entry))
		return -EIO;
	if (!(entry & PTE_P)) {
		*pf_error = 0;
		return -EFAULT;
	}
	leaf = is_leaf(w, level, entry);
	if (entry & reserved_bits(w, level, leaf)) {
		*pf_error = PF_PRESENT | PF_RESERVED;
		return -EFAULT;
	}
	w->entry_gpa[w->depth] = gpa;
	w->entry[w->depth++] = entry;
	if (!(w->pae_root && level == 3)) {
		w->user &= (entry & PTE_U) != 0;
		w->write &= (entry & PTE_W) != 0;
		w->nx |= w->entry_size == 8 && (entry & PTE_NX);
	}
	*table = leaf ? leaf_address(w, level, entry, gva)
		      : entry & (w->entry_size == 8 ? PTE_ADDR : 0xfffff000UL);
	return leaf;
}

static int walk_once(struct walk *w, gva_t gva, u32 access, gpa_t *gpa, u32 *pf_error)
{
	gpa_t table = walk_root(w);
	int rc = 0;

	w->user = w->write = true;
	w->nx = false;
	w->depth = 0;
	for (u8 level = w->levels; level >= 1 && !rc; level--)
		rc = walk_level(w, level, gva, &table, pf_error);
	if (rc == 1 && !allowed(w, access)) {
		*pf_error = PF_PRESENT;
		rc = -EFAULT;
	}
	if (rc == -EFAULT)
		*pf_error |= access_error(w, access);
	if (rc < 0)
		return rc;
	if (!update_accessed(w, access))
		return -EAGAIN;
	*gpa = table;
	return 0;
}

int gwalk(struct vcpu *v, const struct gwalk_ctx *ctx, gva_t gva, u32 access, gpa_t *gpa,
	  u32 *pf_error)
{
	struct walk w = { .v = v, .ctx = ctx };
	int rc = -EAGAIN;

	if (!(ctx->efer & EFER_LMA))
		gva = (u32)gva;
	if (!(ctx->cr0 & CR0_PG)) {
		*gpa = gva;
		return 0;
	}
	walk_format(&w);
	for (u32 i = 0; i < WALK_TRIES && rc == -EAGAIN; i++)
		rc = walk_once(&w, gva, access, gpa, pf_error);
	return rc;
}

int guest_translate(struct vcpu *v, gva_t gva, u32 access, gpa_t *gpa, u32 *pf_error)
{
	struct gwalk_ctx ctx;
	int rc = gwalk_load(v, &ctx);

	return rc ? rc : gwalk(v, &ctx, gva, access, gpa, pf_error);
}

static int segment_fault(u8 seg, struct guest_fault *fault)
{
	*fault = (struct guest_fault){ .vector = seg == VSEG_SS ? VEC_SS : VEC_GP };
	return -EFAULT;
}

static bool canonical(const struct gwalk_ctx *ctx, gva_t gva)
{
	u32 shift = (ctx->cr4 & CR4_LA57) ? 64 - 57 : 64 - 48;

	return (u64)((s64)(gva << shift) >> shift) == gva;
}

/* May a segment of this type be used for the access? Protected mode only. */
static bool segment_type_allows(const struct vsegment *s, u32 access)
{
	bool code = (s->attr & BIT32(3)) != 0, rw = (s->attr & BIT32(1)) != 0;

	if (!(s->attr & VSEG_ATTR_P) || !(s->attr & VSEG_ATTR_S))
		return false;
	if (access & VACCESS_EXEC)
		return code;
	if (access & VACCESS_WRITE)
		return !code && rw;
	return !code || rw;
}

static bool within_limit(const struct vsegment *s, u64 off, u32 size)
{
	u64 last = off + size - 1;

	if ((s->attr & (BIT32(3) | BIT32(2))) == BIT32(2)) { /* data, expand-down */
		u64 top = (s->attr & VSEG_ATTR_DB) ? 0xffffffffUL : 0xffffUL;

		return off > s->limit && last <= top;
	}
	return last <= s->limit;
}

int guest_linear(struct vcpu *v, const struct gwalk_ctx *ctx, u8 seg, u64 off, u32 size,
		 u32 access, gva_t *gva, struct guest_fault *fault)
{
	bool protected = (ctx->cr0 & CR0_PE) && !(ctx->rflags & RFLAGS_VM);
	struct vsegment s;

	if (ctx->mode == INSN_MODE_64) {
		*gva = off;
		if (seg == VSEG_FS || seg == VSEG_GS) {
			if (virt->get_seg(v, seg, &s))
				return -EACCES;
			*gva += s.base;
		}
		if (!canonical(ctx, *gva) || !canonical(ctx, *gva + size - 1))
			return segment_fault(seg, fault);
		return 0;
	}
	if (virt->get_seg(v, seg, &s))
		return -EACCES;
	off = (u32)off;
	if (protected && !segment_type_allows(&s, access))
		return segment_fault(seg, fault);
	if (!within_limit(&s, off, size))
		return segment_fault(seg, fault);
	*gva = (u32)(s.base + off);
	return 0;
}

/* Translates the bytes of [gva, gva + len) that lie in gva's page. */
static int span_part(struct vcpu *v, const struct gwalk_ctx *ctx, gva_t gva, u32 len, u32 access,
		     struct guest_span *span, struct guest_fault *fault)
{
	u32 i = span->parts;
	int rc = gwalk(v, ctx, gva, access, &span->part[i].gpa, &fault->error);

	if (rc == -EFAULT) {
		fault->vector = VEC_PF;
		fault->address = gva;
	}
	if (rc)
		return rc;
	span->part[i].len = len;
	span->parts = i + 1;
	return 0;
}

int guest_span(struct vcpu *v, const struct gwalk_ctx *ctx, gva_t gva, u32 len, u32 access,
	       struct guest_span *span, struct guest_fault *fault)
{
	u32 first = MIN(len, (u32)(PAGE_SIZE - (gva & (PAGE_SIZE - 1))));
	gva_t next = gva + first;
	int rc;

	span->parts = 0;
	if (len == 0 || len > PAGE_SIZE)
		return -E2BIG;
	rc = span_part(v, ctx, gva, first, access, span, fault);
	if (rc || first == len)
		return rc;
	if (ctx->mode != INSN_MODE_64)
		next = (u32)next;
	return span_part(v, ctx, next, len - first, access, span, fault);
}

/* Host pointer to one part of a span when all of it is RAM, else NULL. */
static u8 *part_ptr(struct vcpu *v, const struct guest_span *span, u32 i, bool write)
{
	size_t len = span->part[i].len;
	u8 *p = vm_ram_ptr(v->vm, span->part[i].gpa, &len, write);

	return p && len >= span->part[i].len ? p : NULL;
}

int guest_read_linear(struct vcpu *v, const struct gwalk_ctx *ctx, gva_t gva, void *buf, u32 len,
		      struct guest_fault *fault)
{
	struct guest_span span;
	u8 *out = buf;
	int rc = guest_span(v, ctx, gva, len, VACCESS_READ, &span, fault);

	for (u32 i = 0; !rc && i < span.parts; i++) {
		const u8 *p = part_ptr(v, &span, i, false);

		if (!p)
			return -EIO;
		__builtin_memcpy(out, p, span.part[i].len);
		out += span.part[i].len;
	}
	return rc;
}

int guest_write_linear(struct vcpu *v, const struct gwalk_ctx *ctx, gva_t gva, const void *buf,
		       u32 len, struct guest_fault *fault)
{
	struct guest_span span;
	const u8 *in = buf;
	u8 *p[2] = { NULL, NULL };
	int rc = guest_span(v, ctx, gva, len, VACCESS_WRITE, &span, fault);

	if (rc)
		return rc;
	for (u32 i = 0; i < span.parts; i++) {
		p[i] = part_ptr(v, &span, i, true);
		if (!p[i])
			return -EIO;
	}
	for (u32 i = 0; i < span.parts; i++) {
		__builtin_memcpy(p[i], in, span.part[i].len);
		in += span.part[i].len;
	}
	return 0;
}

/* How many of INSN_MAX bytes from rip lie within CS; 0 when not even the first does. */
static int fetch_room(struct vcpu *v, const struct gwalk_ctx *ctx, u64 rip, gva_t *gva, u32 *room,
		      struct guest_fault *fault)
{
	int rc = guest_linear(v, ctx, VSEG_CS, rip, 1, VACCESS_EXEC, gva, fault);
	struct guest_fault beyond;
	gva_t last;

	*room = INSN_MAX;
	while (!rc && *room > 1) {
		rc = guest_linear(v, ctx, VSEG_CS, rip, *room, VACCESS_EXEC, &last, &beyond);
		if (rc != -EFAULT)
			break;
		*fault = beyond;
		rc = 0;
		--*room;
	}
	return rc;
}

int guest_fetch(struct vcpu *v, const struct gwalk_ctx *ctx, u64 rip, u8 *buf,
		struct guest_fault *fault)
{
	struct guest_span span;
	u32 room, got = 0;
	gva_t gva;
	int rc;

	*fault = (struct guest_fault){ .vector = VEC_GP };
	rc = fetch_room(v, ctx, rip, &gva, &room, fault);
	if (rc)
		return rc;
	rc = guest_span(v, ctx, gva, room, VACCESS_EXEC, &span, fault);
	for (u32 i = 0; i < span.parts; i++) {
		const u8 *p = part_ptr(v, &span, i, false);

		if (!p) {
			rc = -EIO;
			break;
		}
		__builtin_memcpy(buf + got, p, span.part[i].len);
		got += span.part[i].len;
	}
	return got ? (int)got : rc;
}

static bool code_valid(const struct gwalk_code *code, const struct gwalk_ctx *ctx, gva_t page)
{
	if (!code->host || code->page != page || code->cr3 != ctx->cr3 || code->cpl != ctx->cpl ||
	    code->cr4 != ctx->cr4 || code->cr0 != ctx->cr0 || code->efer != ctx->efer)
		return false;
	for (u32 i = 0; i < code->depth; i++)
		if (__atomic_load_n(code->entry[i], __ATOMIC_RELAXED) != code->value[i])
			return false;
	return true;
}

/* Walks to a code page and notes the way. */
static bool code_learn(struct vcpu *v, const struct gwalk_ctx *ctx, struct gwalk_code *code,
		       gva_t page)
{
	struct walk w = { .v = v, .ctx = ctx };
	size_t len = PAGE_SIZE;
	gpa_t gpa;
	u32 error;

	code->host = NULL;
	walk_format(&w);
	if (!canonical(ctx, page) || walk_once(&w, page, VACCESS_EXEC, &gpa, &error))
		return false;
	for (u32 i = 0; i < w.depth; i++) {
		size_t room = sizeof(u64);

		code->entry[i] = vm_ram_ptr(v->vm, w.entry_gpa[i], &room, false);
		code->value[i] =
			w.entry[i] | PTE_A; /* never equal in ROM without the bit: no harm */
	}
	code->depth = w.depth;
	code->page = page;
	code->cr0 = ctx->cr0;
	code->cr3 = ctx->cr3;
	code->cr4 = ctx->cr4;
	code->efer = ctx->efer;
	code->cpl = ctx->cpl;
	code->host = vm_ram_ptr(v->vm, gpa, &len, false);
	if (len < PAGE_SIZE)
		code->host = NULL;
	return code->host != NULL;
}

bool guest_fetch_cached(struct vcpu *v, const struct gwalk_ctx *ctx, struct gwalk_code *code,
			u64 rip, u8 *buf)
{
	u64 offset = rip & (PAGE_SIZE - 1);
	gva_t page = rip - offset;

	if (ctx->mode != INSN_MODE_64 || offset + INSN_MAX > PAGE_SIZE)
		return false;
	if (!code_valid(code, ctx, page) && !code_learn(v, ctx, code, page))
		return false;
	__builtin_memcpy(buf, code->host + offset, INSN_MAX);
	return true;
}

void guest_inject(struct vcpu *v, const struct guest_fault *fault)
{
	if (fault->vector == VEC_PF)
		vcpu_inject_pf(v, fault->address, fault->error);
	else
		vcpu_inject_exception(v, fault->vector, true, fault->error);
}
