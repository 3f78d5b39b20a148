/*
 * verdict.h - how the decoding modules (jpeg, png_file) say what they think of a picture: one place
 * that fills in the verdict and its reason. Private to decode.c and the modules behind it.
 */
#ifndef COMMON_VERDICT_H
#define COMMON_VERDICT_H

#include "common/decode.h"

/* The picture is bad: set verdict, reason and the thread's error text ("REASON", or "REASON:
 * DETAIL" when DETAIL is not NULL). Bytes that are not printable ASCII are quoted. Returns
 * -ERR_INPUT. */
int verdict_bad(struct decode_info *info, const char *reason, const char *detail);

/* The decoder complained: keep the first complaint as the reason, and WARN as the verdict. */
void verdict_warn(struct decode_info *info, const char *complaint);

#endif
