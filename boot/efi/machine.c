/* SPDX-License-Identifier: BSD-2-Clause */
#include "boot/efi/loader.h"
#include <efipciio.h>

/* What the firmware knows about the machine, and how it is taken over. */

void machine_find_tables(struct boot_info *bi)
{
	static EFI_GUID acpi2 = ACPI_20_TABLE_GUID, acpi1 = ACPI_TABLE_GUID;

	bi->efi_system_table = (paddr_t)ST;
	for (UINTN i = 0; i < ST->NumberOfTableEntries; i++) {
		EFI_CONFIGURATION_TABLE *t = &ST->ConfigurationTable[i];

		if (CompareGuid(&t->VendorGuid, &acpi2) == 0)
			bi->rsdp = (paddr_t)t->VendorTable;
		else if (CompareGuid(&t->VendorGuid, &acpi1) == 0 && bi->rsdp == 0)
			bi->rsdp = (paddr_t)t->VendorTable;
	}
}

static u8 lowest_bit(UINT32 mask)
{
	return mask == 0 ? 0 : (u8)__builtin_ctz(mask);
}

void machine_find_framebuffer(struct boot_info *bi)
{
	EFI_GRAPHICS_OUTPUT_PROTOCOL *gop;
	EFI_GRAPHICS_OUTPUT_MODE_INFORMATION *m;
	struct boot_framebuffer fb = { .green_shift = 8 };

	if (EFI_ERROR(LibLocateProtocol(&GraphicsOutputProtocol, (void **)&gop)) ||
	    gop->Mode == NULL || gop->Mode->Info == NULL)
		return;
	m = gop->Mode->Info;
	if (m->PixelFormat == PixelBlueGreenRedReserved8BitPerColor) {
		fb.red_shift = 16;
	} else if (m->PixelFormat == PixelRedGreenBlueReserved8BitPerColor) {
		fb.blue_shift = 16;
	} else if (m->PixelFormat == PixelBitMask) {
		fb.red_shift = lowest_bit(m->PixelInformation.RedMask);
		fb.green_shift = lowest_bit(m->PixelInformation.GreenMask);
		fb.blue_shift = lowest_bit(m->PixelInformation.BlueMask);
	} else {
		return; /* drawn by firmware calls only */
	}
	fb.base = gop->Mode->FrameBufferBase;
	fb.width = m->HorizontalResolution;
	fb.height = m->VerticalResolution;
	fb.pitch = m->PixelsPerScanLine * 4;
	bi->fb = fb;
}

#define PCI_COMMAND 0x04
#define PCI_CLASS 0x0a /* subclass, then base class */
#define PCI_CLASS_BRIDGE_PCI 0x0604
#define PCI_COMMAND_MASTER 0x0004

static void stop_bridge(EFI_PCI_IO_PROTOCOL *io)
{
	UINT16 class_code = 0, command = 0;

	if (EFI_ERROR(io->Pci.Read(io, EfiPciIoWidthUint16, PCI_CLASS, 1, &class_code)) ||
	    class_code != PCI_CLASS_BRIDGE_PCI)
		return;
	if (EFI_ERROR(io->Pci.Read(io, EfiPciIoWidthUint16, PCI_COMMAND, 1, &command)))
		return;
	command &= (UINT16)~PCI_COMMAND_MASTER;
	io->Pci.Write(io, EfiPciIoWidthUint16, PCI_COMMAND, 1, &command);
}

void machine_stop_dma(void)
{
	static EFI_GUID guid = EFI_PCI_IO_PROTOCOL_GUID;
	EFI_HANDLE *handles;
	UINTN n = 0;

	if (EFI_ERROR(BS->LocateHandleBuffer(ByProtocol, &guid, NULL, &n, &handles)))
		return;
	for (UINTN i = 0; i < n; i++) {
		EFI_PCI_IO_PROTOCOL *io;

		if (!EFI_ERROR(BS->HandleProtocol(handles[i], &guid, (void **)&io)))
			stop_bridge(io);
	}
	BS->FreePool(handles);
}

/* --- the memory map --- */

#define MAP_SIZE (UINTN)(256UL << 10)
#define EXIT_TRIES 8

static u32 memory_type(UINT32 efi_type)
{
	switch (efi_type) {
	case EfiLoaderCode:
	case EfiLoaderData:
	case EfiBootServicesCode:
	case EfiBootServicesData:
	case EfiConventionalMemory:
		return MEM_RAM;
	case EfiACPIReclaimMemory:
		return MEM_ACPI;
	case EfiACPIMemoryNVS:
		return MEM_NVS;
	case EfiUnusableMemory:
		return MEM_BAD;
	default:
		return MEM_RESERVED;
	}
}

/* Neighbours of one type become one entry; should the table overflow, what is lost is not used. */
static void add_memory(struct boot_info *bi, UINT64 base, UINT64 size, u32 type)
{
	struct boot_mem *last = bi->mems == 0 ? NULL : &bi->mem[bi->mems - 1];

	if (last != NULL && last->type == type && last->base + last->size == base)
		last->size += size;
	else if (bi->mems < BOOT_MEM_MAX)
		bi->mem[bi->mems++] = (struct boot_mem){ .base = base, .size = size, .type = type };
}

static void convert(struct boot_info *bi, const UINT8 *map, UINTN size, UINTN step)
{
	bi->mems = 0;
	for (UINTN at = 0; at + sizeof(EFI_MEMORY_DESCRIPTOR) <= size; at += step) {
		const EFI_MEMORY_DESCRIPTOR *d = (const void *)(map + at);

		add_memory(bi, d->PhysicalStart, d->NumberOfPages << EFI_PAGE_SHIFT,
			   memory_type(d->Type));
	}
}

/*
 * The map may change between the two calls (an event handler of the firmware
 * allocates): its key is stale then, and the pair is tried again. After the
 * first ExitBootServices() only GetMemoryMap() may be called, so the buffer is
 * allocated before, with room to grow (UEFI 2.10, 7.4.6).
 */
EFI_STATUS machine_exit_boot_services(EFI_HANDLE image, struct boot_info *bi)
{
	UINT8 *map = NULL;
	UINTN size = 0, key = 0, step = 0;
	UINT32 version;
	EFI_STATUS s = BS->AllocatePool(EfiLoaderData, MAP_SIZE, (void **)&map);

	if (EFI_ERROR(s))
		return s;
	for (UINTN i = 0; i < EXIT_TRIES; i++) {
		size = MAP_SIZE;
		s = BS->GetMemoryMap(&size, (EFI_MEMORY_DESCRIPTOR *)map, &key, &step, &version);
		if (EFI_ERROR(s))
			return s;
		s = BS->ExitBootServices(image, key);
		if (s != EFI_INVALID_PARAMETER)
			break;
	}
	if (!EFI_ERROR(s))
		convert(bi, map, size, step);
	return s;
}
