/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_VERSION_H
#define RAVELIN_CORE_VERSION_H

#define RAVELIN_VERSION "0.1"

#endif
