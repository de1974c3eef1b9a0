/* SPDX-License-Identifier: BSD-2-Clause */
#include "boot/efi/loader.h"
#include "core/errno.h"

#define PATH_CHARS 256

static EFI_FILE_HANDLE root;
static CHAR16 folder[PATH_CHARS]; /* where the application lies, ends with a backslash */

/* The folder's part of the application's own path, "\EFI\BOOT\" of "\EFI\BOOT\BOOTX64.EFI". */
static void find_folder(const EFI_LOADED_IMAGE *self)
{
	CHAR16 *path = self->FilePath == NULL ? NULL : DevicePathToStr(self->FilePath);
	UINTN end = 0;

	if (path == NULL)
		return;
	for (UINTN i = 0; path[i] != 0 && i < PATH_CHARS - 1; i++) {
		folder[i] = path[i] == L'/' ? L'\\' : path[i];
		if (folder[i] == L'\\')
			end = i + 1;
	}
	folder[end] = 0;
	FreePool(path);
}

EFI_STATUS files_open(EFI_HANDLE image)
{
	EFI_LOADED_IMAGE *self;
	EFI_STATUS s = BS->HandleProtocol(image, &LoadedImageProtocol, (void **)&self);

	if (EFI_ERROR(s))
		return s;
	find_folder(self);
	root = LibOpenRoot(self->DeviceHandle);
	return root == NULL ? EFI_NO_MEDIA : EFI_SUCCESS;
}

/* prefix and path joined, with backslashes. False: too long. */
static BOOLEAN join(CHAR16 *out, const CHAR16 *prefix, const char *path)
{
	UINTN n = 0;

	while (*prefix != 0 && n < PATH_CHARS - 1)
		out[n++] = *prefix++;
	while (*path == '/' || *path == '\\')
		path++;
	while (*path != 0 && n < PATH_CHARS - 1) {
		out[n++] = *path == '/' ? L'\\' : (CHAR16)(UINT8)*path;
		path++;
	}
	out[n] = 0;
	return *path == 0;
}

/* Beside the application first, then from the volume's root. */
static EFI_STATUS open_file(const char *path, EFI_FILE_HANDLE *file)
{
	static CHAR16 name[PATH_CHARS];
	EFI_STATUS s = EFI_NOT_FOUND;

	if (path[0] != '/' && path[0] != '\\' && join(name, folder, path))
		s = root->Open(root, file, name, EFI_FILE_MODE_READ, 0);
	if (EFI_ERROR(s) && join(name, L"\\", path))
		s = root->Open(root, file, name, EFI_FILE_MODE_READ, 0);
	return s;
}

/* Firmware reads large files in pieces better than at once. */
#define READ_PIECE (UINTN)(16UL << 20)

static EFI_STATUS read_all(EFI_FILE_HANDLE file, UINT8 *to, UINT64 size)
{
	while (size != 0) {
		UINTN n = size < READ_PIECE ? (UINTN)size : READ_PIECE;
		EFI_STATUS s = file->Read(file, &n, to);

		if (EFI_ERROR(s))
			return s;
		if (n == 0)
			return EFI_END_OF_FILE;
		to += n;
		size -= n;
	}
	return EFI_SUCCESS;
}

#define SMALL_FILE (1U << 20)

static EFI_STATUS read_file(EFI_FILE_HANDLE file, struct boot_module *m)
{
	EFI_FILE_INFO *info = LibFileInfo(file);
	EFI_PHYSICAL_ADDRESS base = BELOW_4G;
	UINT64 size;
	EFI_STATUS s;

	if (info == NULL)
		return EFI_DEVICE_ERROR;
	size = (info->Attribute & EFI_FILE_DIRECTORY) != 0 ? 0 : info->FileSize;
	FreePool(info);
	if (size == 0)
		return EFI_END_OF_FILE;
	/* The configuration is read by page tables that show 4 GiB. */
	s = BS->AllocatePages(size <= SMALL_FILE ? AllocateMaxAddress : AllocateAnyPages,
			      EfiLoaderData, EFI_SIZE_TO_PAGES(size), &base);
	if (EFI_ERROR(s))
		return s;
	s = read_all(file, (UINT8 *)base, size);
	if (EFI_ERROR(s)) {
		BS->FreePages(base, EFI_SIZE_TO_PAGES(size));
		return s;
	}
	m->base = base;
	m->size = size;
	return EFI_SUCCESS;
}

static s32 to_errno(EFI_STATUS s)
{
	switch (s) {
	case EFI_SUCCESS: return 0;
	case EFI_NOT_FOUND: return -ENOENT;
	case EFI_OUT_OF_RESOURCES: return -ENOMEM;
	case EFI_END_OF_FILE: return -EPROTO;
	default: return -EIO;
	}
}

struct boot_module *files_read(struct boot_info *bi, const char *path)
{
	EFI_FILE_HANDLE file;
	struct boot_module *m;
	EFI_STATUS s;
	UINTN n = 0;

	if (bi->modules == BOOT_MODULE_MAX)
		return NULL;
	m = &bi->module[bi->modules++];
	while (path[n] != 0 && n < BOOT_NAME_LEN - 1) {
		m->name[n] = path[n];
		n++;
	}
	s = open_file(path, &file);
	if (!EFI_ERROR(s)) {
		s = read_file(file, m);
		file->Close(file);
	}
	m->error = to_errno(s);
	if (m->error != 0)
		Print(L"ravelin: %a: %r\n", path, s);
	return m;
}
