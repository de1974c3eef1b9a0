/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_BOOT_EFI_LOADER_H
#define RAVELIN_BOOT_EFI_LOADER_H

#include <efi.h>
#include <efilib.h>
#undef MIN
#undef MAX

#include "core/boot_info.h"

/* ravelin.efi: reads the configuration and its files, then enters the image that it carries. */

#define BELOW_4G 0xffffffffUL /* for AllocatePages() */

/* files.c: sets out from the volume and folder that the application came from. */
EFI_STATUS files_open(EFI_HANDLE image);
/*
 * Reads a file into pages of its own, a small one such as the configuration
 * below 4 GiB, and enters it in bi->module[]; a file that cannot be read gets an
 * entry with .error. Returns the entry, NULL when the table is full.
 */
struct boot_module *files_read(struct boot_info *bi, const char *path);

/* config.c: reads every file that the configuration's text names. */
void config_read_files(struct boot_info *bi, const char *text, UINTN size);

/* machine.c */
void machine_find_tables(struct boot_info *bi);
void machine_find_framebuffer(struct boot_info *bi);
/* Bridges forward no DMA from here on (a device that firmware left busy must not write into
 * memory that is ours). */
void machine_stop_dma(void);
/* Ends boot services and fills bi->mem[]. After success no firmware service may be called. */
EFI_STATUS machine_exit_boot_services(EFI_HANDLE image, struct boot_info *bi);

#endif
