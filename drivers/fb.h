/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_DRIVERS_FB_H
#define RAVELIN_DRIVERS_FB_H

#include "core/boot_info.h"

/* Text on a linear framebuffer with 32 bits a pixel. */
#define FB_GLYPH_ROWS 7
/* Printable ASCII from ' ', five pixels wide: bit 4 is the leftmost. drivers/font.c. */
extern const u8 fb_font[95][FB_GLYPH_ROWS];

/* Maps and clears it. -ENODEV: there is none, or it is too small or of a form we do not know. */
int fb_init(const struct boot_framebuffer *fb);
/* One character; '\n', '\r', '\b' and tab move, others above 126 show as '?'. */
void fb_put(char c);

#endif
