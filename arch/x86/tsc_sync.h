/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_ARCH_X86_TSC_SYNC_H
#define RAVELIN_ARCH_X86_TSC_SYNC_H

#include "core/types.h"

/* No CPU ever sees a TSC value below one that another CPU has read before. Constant once VMs exist. */
extern bool tsc_synchronised;

#endif
