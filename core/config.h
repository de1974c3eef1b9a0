/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_CONFIG_H
#define RAVELIN_CORE_CONFIG_H

#include "core/types.h"

struct boot_info;

#define VM_MAX 64
#define VCPU_MAX 64
#define CPU_MAX 256
#define CONFIG_NAME_LEN 32
#define CONFIG_PATH_LEN 128
#define CONFIG_CMDLINE_LEN 2048
#define CONFIG_MODULES 8
#define CONFIG_CONSOLES 4

enum sev_mode { SEV_OFF, SEV_ES };

enum console_kind { CONSOLE_NONE, CONSOLE_UART, CONSOLE_FB };

struct console_config {
	u8 kind;  /* enum console_kind */
	u16 port; /* I/O port; UART only */
	u32 baud;
};

/* Set of physical CPU numbers. */
struct cpu_set {
	u64 bits[CPU_MAX / 64];
};

struct module_config {
	char path[CONFIG_PATH_LEN]; /* file or multiboot2 module name */
	char args[CONFIG_PATH_LEN]; /* rest of the line, for multiboot guests */
};

struct vm_config {
	char name[CONFIG_NAME_LEN];
	char kernel[CONFIG_PATH_LEN];   /* empty when firmware is used */
	char initrd[CONFIG_PATH_LEN];
	char firmware[CONFIG_PATH_LEN];
	char cmdline[CONFIG_CMDLINE_LEN];
	struct module_config module[CONFIG_MODULES]; /* multiboot guests only */
	u32 modules;
	u64 memory;    /* bytes, a multiple of 2 MiB */
	u32 cpus;      /* 1..VCPU_MAX */
	struct cpu_set affinity; /* empty: any */
	u8 sev;        /* enum sev_mode */
	u32 policy;    /* SEV guest policy word */
	char sev_loader[CONFIG_PATH_LEN];        /* what is entered first, measured */
	char sev_cert[CONFIG_PATH_LEN];          /* the owner's files, empty: none */
	char sev_session[CONFIG_PATH_LEN];
	char sev_secret_header[CONFIG_PATH_LEN];
	char sev_secret[CONFIG_PATH_LEN];        /* or "wait": the shell gets it later */
	u64 sev_secret_gpa;                      /* 0: where the image says */
	bool autostart;
	bool debug_exit;  /* port 0xF4 ends the VM with a code */
	u32 pv;           /* PV_*: what of KVM's paravirtual interface it is offered */
	bool debugcon;    /* port 0x402 (firmware debug text) goes to the VM's console */
	bool valid;    /* no error in this section: may be started */
	u32 line;      /* where its section starts in the text */
};

struct host_config {
	struct console_config console[CONFIG_CONSOLES];
	u32 consoles;
	u32 log_level;                 /* LOG_* */
	char attach[CONFIG_NAME_LEN];  /* VM whose serial port gets the console after start */
	char escape;                   /* control character that returns to the shell; Ctrl-] by default */
	bool mitigations;
	bool memory_encryption;        /* the host's own: what it allocates (SME) */
};

struct config {
	struct host_config host;
	struct vm_config *vm; /* array of VM_MAX */
	u32 vms;
	u32 errors;
};

/*
 * Parses the text (not NUL-terminated, hostile) into *c; c->vm must point to
 * VM_MAX zeroed entries. Each error is logged with file name, line, the value
 * and what is allowed; a section with an error is marked not valid and the
 * rest still counts. Returns the number of errors.
 */
u32 config_parse(struct config *c, const char *name, const char *text, size_t len);
void config_defaults(struct config *c);

/* The machine's configuration, constant after start. */
extern struct config config;
/* Reads it from the boot module, which is below 4 GiB; before there is memory to allocate. */
void config_read(const struct boot_info *bi);
/* Its section of that name, valid or not; NULL: none. */
const struct vm_config *config_find(const char *name);
/* Does a launch of this VM wait for its owner's secret? */
bool config_secret_waits(const struct vm_config *c);

#endif
