# SPDX-License-Identifier: BSD-2-Clause
# Turns `nm -n` output into the table of function names that arch/x86/symbols.c
# reads: sorted offsets from the image's start, then the names one after another.
BEGIN { n = 0; last = "" }
$2 ~ /^[tT]$/ && $3 !~ /\./ && $3 !~ /^(text_start|text_end|image_start)$/ && $1 != last {
	last = $1
	offset[n] = substr($1, 9)
	name[n++] = $3
}
END {
	print "section .symbols progbits alloc noexec nowrite align=8"
	print "global symbol_count, symbol_table, symbol_names"
	printf "symbol_count: dd %d\n", n
	print "symbol_table:"
	pos = 0
	for (i = 0; i < n; i++) {
		printf "dd 0x%s - 0x80000000, %d\n", offset[i], pos
		pos += length(name[i]) + 1
	}
	print "symbol_names:"
	for (i = 0; i < n; i++)
		printf "db \"%s\", 0\n", name[i]
}
