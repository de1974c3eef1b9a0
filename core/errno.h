/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef RAVELIN_CORE_ERRNO_H
#define RAVELIN_CORE_ERRNO_H

/* Functions return 0 or the negative of one of these; the values are the Unix ones. */
#define ENOENT 2     /* no such thing */
#define EIO 5        /* the device failed */
#define E2BIG 7      /* larger than the limit */
#define EAGAIN 11    /* try again */
#define ENOMEM 12    /* out of memory */
#define EACCES 13    /* refused, protected */
#define EFAULT 14    /* bad address */
#define EBUSY 16     /* in use */
#define EEXIST 17    /* already there */
#define ENODEV 19    /* no such device */
#define EINVAL 22    /* bad value */
#define ENOSPC 28    /* no room left in a table */
#define ERANGE 34    /* out of range */
#define EPROTO 71    /* malformed data */
#define ENOTSUP 95   /* not supported */
#define ETIMEDOUT 110

#endif
