# SPDX-License-Identifier: BSD-2-Clause
# Turns `nm -n` output into the table of function names that arch/x86/symbols.c
# reads: how far each function is from the one before, then the names one after another.
BEGIN { n = 0; last = "" }
$2 ~ /^[tT]$/ && $3 !~ /\./ && $3 !~ /^(text_start|text_end|image_start)$/ && $1 != last {
	last = $1
	offset[n] = substr($1, 9)
	name[n++] = $3
}
END {
	print "section .symbols progbits alloc noexec nowrite align=4"
	print "global symbol_count, symbol_table, symbol_names"
	printf "symbol_count: dd %d\n", n
	print "symbol_table:"
	before = "80000000"
	for (i = 0; i < n; i++) {
		# A step that does not fit would be cut off in silence.
		printf "%%if 0x%s - 0x%s > 0xffff\n%%error \"%s is too far off\"\n%%endif\n", offset[i], before, name[i]
		printf "dw 0x%s - 0x%s\n", offset[i], before
		before = offset[i]
	}
	print "symbol_names:"
	for (i = 0; i < n; i++)
		printf "db \"%s\", 0\n", name[i]
}
