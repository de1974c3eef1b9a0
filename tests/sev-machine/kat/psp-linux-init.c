/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * First and only process of a Linux test run: load the unmodified ccp module, talk to the
 * security processor through /dev/sev and write what it answers to the second serial port (the
 * first one has the kernel's messages):
 *
 *   KAT name rc=RETURN errno=ERRNO fw=STATUS [hex]
 *
 * Kernel command line: init_ex=1 keeps the processor's data in the file /nv (INIT_EX).
 * /pek and /oca, if there, are imported. Build: cc -static -O2.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/psp-sev.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <termios.h>
#include <unistd.h>

#define CERT_LEN 0x824
#define CHAIN_LEN 0x186c

static int sev;
static uint8_t cert[CERT_LEN], chain[CHAIN_LEN];

static void print_hex(const void *data, size_t len)
{
	const uint8_t *bytes = data;

	putchar(' ');
	for (size_t i = 0; i < len; i++)
		printf("%02x", bytes[i]);
}

/* Issue a command and print the outcome with `len` bytes at `out`. */
static int issue(const char *name, uint32_t cmd, void *arg, const void *out, size_t len)
{
	struct sev_issue_cmd request = { .cmd = cmd, .data = (uintptr_t)arg, .error = 0xeeee };
	int rc = ioctl(sev, SEV_ISSUE_CMD, &request);

	printf("KAT %s rc=%d errno=%d fw=%u", name, rc, rc ? errno : 0, request.error);
	if (!rc && len)
		print_hex(out, len);
	putchar('\n');
	return rc;
}

static void status(const char *name)
{
	struct sev_user_data_status st;

	memset(&st, 0xee, sizeof(st));
	issue(name, SEV_PLATFORM_STATUS, &st, &st, sizeof(st));
}

static void export(const char *name)
{
	struct sev_user_data_pdh_cert_export arg = {
		.pdh_cert_address = (uintptr_t)cert, .pdh_cert_len = sizeof(cert),
		.cert_chain_address = (uintptr_t)chain, .cert_chain_len = sizeof(chain),
	};

	if (issue(name, SEV_PDH_CERT_EXPORT, &arg, chain, sizeof(chain)) == 0) {
		printf("KAT %s-pdh rc=0 errno=0 fw=0", name);
		print_hex(cert, sizeof(cert));
		putchar('\n');
	}
}

static size_t load(const char *path, uint8_t *data, size_t len)
{
	int fd = open(path, O_RDONLY);
	ssize_t got = fd < 0 ? 0 : read(fd, data, len);

	if (fd >= 0)
		close(fd);
	return got < 0 ? 0 : (size_t)got;
}

static void import(void)
{
	static uint8_t pek[CERT_LEN], oca[CERT_LEN];
	struct sev_user_data_pek_cert_import arg = {
		.pek_cert_address = (uintptr_t)pek, .pek_cert_len = sizeof(pek),
		.oca_cert_address = (uintptr_t)oca, .oca_cert_len = sizeof(oca),
	};

	issue("import-zeros", SEV_PEK_CERT_IMPORT, &arg, NULL, 0);
	if (load("/pek", pek, sizeof(pek)) && load("/oca", oca, sizeof(oca))) {
		issue("import", SEV_PEK_CERT_IMPORT, &arg, NULL, 0);
		issue("import-again", SEV_PEK_CERT_IMPORT, &arg, NULL, 0);
		status("owned");
		export("imported");
	}
}

static void talk(void)
{
	struct sev_user_data_pdh_cert_export query = { 0 };
	struct sev_user_data_pek_csr csr = { 0 };
	static uint8_t id[64];
	struct sev_user_data_get_id2 get_id = { .address = (uintptr_t)id, .length = sizeof(id) };

	status("status");
	issue("export-query", SEV_PDH_CERT_EXPORT, &query, NULL, 0);
	printf("KAT lengths rc=0 errno=0 fw=0 %08x%08x\n", query.pdh_cert_len, query.cert_chain_len);
	export("export");
	issue("csr-query", SEV_PEK_CSR, &csr, NULL, 0);
	csr.address = (uintptr_t)cert;
	issue("csr", SEV_PEK_CSR, &csr, cert, sizeof(cert));
	issue("id", SEV_GET_ID2, &get_id, id, sizeof(id));
	issue("pdh-gen", SEV_PDH_GEN, NULL, NULL, 0);
	export("new-pdh");
	import();
	issue("pek-gen", SEV_PEK_GEN, NULL, NULL, 0);
	export("new-pek");
	status("end");
}

static int load_module(const char *path, const char *args)
{
	int fd = open(path, O_RDONLY);

	return fd < 0 ? -1 : (int)syscall(SYS_finit_module, fd, args, 0);
}

int main(void)
{
	static uint8_t nv[0x8000];

	mkdir("/dev", 0755);
	mount("dev", "/dev", "devtmpfs", 0, NULL);
	if (!freopen("/dev/ttyS1", "w", stdout))
		reboot(RB_POWER_OFF);
	if (load_module("/ccp.ko", getenv("init_ex") ? "init_ex_path=/nv" : "")) {
		printf("KAT insmod rc=-1 errno=%d fw=0\n", errno);
	}
	sev = open("/dev/sev", O_RDWR);
	if (sev < 0)
		printf("KAT open rc=-1 errno=%d fw=0\n", errno);
	else
		talk();
	if (load("/nv", nv, sizeof(nv))) {
		printf("KAT nv rc=0 errno=0 fw=0");
		print_hex(nv, sizeof(nv));
		putchar('\n');
	}
	puts("KAT done rc=0 errno=0 fw=0");
	fflush(stdout);
	tcdrain(fileno(stdout));
	reboot(RB_POWER_OFF);
	return 0;
}
