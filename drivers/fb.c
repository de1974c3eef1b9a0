/* SPDX-License-Identifier: BSD-2-Clause */
#include "drivers/fb.h"
#include "arch/x86/cpu.h"
#include "arch/x86/paging.h"
#include "core/errno.h"
#include "core/heap.h"
#include "core/string.h"

/*
 * Cells of 8 by 16 pixels; a glyph's rows are drawn twice. Reading video memory
 * back is slow, so a copy of the text is kept and scrolling redraws from it,
 * only the cells that change.
 */
#define CELL_WIDTH 8U
#define CELL_HEIGHT 16U
#define GLYPH_COLUMNS 5U
#define GLYPH_LEFT 1U
#define GLYPH_TOP 1U
#define COLUMNS_MAX 256U
#define ROWS_MAX 160U

static volatile u8 *pixels;
static u32 pitch, columns, rows;
static u32 at_column, at_row;
static u32 foreground;
static u8 text[ROWS_MAX][COLUMNS_MAX];

static void draw_row(volatile u32 *line, u8 bits)
{
	for (u32 x = 0; x < CELL_WIDTH; x++) {
		u32 column = x - GLYPH_LEFT;
		bool on = column < GLYPH_COLUMNS && (bits >> (GLYPH_COLUMNS - 1 - column) & 1) != 0;

		line[x] = on ? foreground : 0;
	}
}

static void draw(u32 row, u32 column, u8 ch)
{
	volatile u8 *cell = pixels + (u64)row * CELL_HEIGHT * pitch + column * CELL_WIDTH * 4;

	for (u32 y = 0; y < CELL_HEIGHT; y++) {
		u32 glyph_row = (y - GLYPH_TOP) / 2;
		u8 bits = y < GLYPH_TOP || glyph_row >= FB_GLYPH_ROWS ? 0 :
			  fb_font[ch - ' '][glyph_row];

		draw_row((volatile u32 *)(cell + (u64)y * pitch), bits);
	}
}

static void set_cell(u32 row, u32 column, u8 ch)
{
	if (text[row][column] == ch)
		return;
	text[row][column] = ch;
	draw(row, column, ch);
}

static void scroll(void)
{
	for (u32 r = 0; r + 1 < rows; r++)
		for (u32 c = 0; c < columns; c++)
			set_cell(r, c, text[r + 1][c]);
	for (u32 c = 0; c < columns; c++)
		set_cell(rows - 1, c, ' ');
}

static void new_line(void)
{
	at_column = 0;
	if (at_row + 1 < rows)
		at_row++;
	else
		scroll();
}

void fb_put(char c)
{
	if (columns == 0)
		return;
	if (c == '\n') {
		new_line();
	} else if (c == '\r') {
		at_column = 0;
	} else if (c == '\b') {
		at_column -= at_column > 0 ? 1 : 0;
	} else if (c == '\t') {
		at_column = MIN((at_column + 8) & ~7U, columns - 1);
	} else if ((u8)c >= ' ') {
		set_cell(at_row, at_column, (u8)c > '~' ? '?' : (u8)c);
		if (++at_column == columns)
			new_line();
	}
}

int fb_init(const struct boot_framebuffer *fb)
{
	if (columns != 0)
		return 0;
	if (fb->width < CELL_WIDTH * 40 || fb->height < CELL_HEIGHT * 4 ||
	    fb->pitch < (u64)fb->width * 4)
		return -ENODEV;
	if (fb->red_shift > 24 || fb->green_shift > 24 || fb->blue_shift > 24)
		return -ENODEV;
	pixels = mmio_map_wc(fb->base, (u64)fb->pitch * fb->height);
	if (pixels == NULL)
		return -ENOSPC;
	pitch = fb->pitch;
	foreground = 0xd0U << fb->red_shift | 0xd0U << fb->green_shift | 0xd0U << fb->blue_shift;
	rows = MIN(fb->height / CELL_HEIGHT, ROWS_MAX);
	columns = MIN(fb->width / CELL_WIDTH, COLUMNS_MAX);
	for (u32 r = 0; r < rows; r++)
		for (u32 c = 0; c < columns; c++)
			set_cell(r, c, ' ');
	return 0;
}
