; SPDX-License-Identifier: BSD-2-Clause
; The hypervisor's image inside ravelin.efi; the build defines IMAGE.
section .rodata align=16
global image_blob:data hidden, image_blob_end:data hidden
image_blob:
	incbin IMAGE
image_blob_end:
