/*
 * Base64 (RFC 4648 section 4), strict: the standard alphabet, padded, nothing else in between, no bits left
 * over.
 */
#ifndef HOLDFAST_HUB_BASE64_H
#define HOLDFAST_HUB_BASE64_H

#include <stdbool.h>
#include <stddef.h>

/* What len characters decode to at the most. */
static inline size_t base64_decoded_max(size_t len) { return len / 4 * 3; }

/* Decodes len characters to out, which has room for base64_decoded_max(len) bytes. False: not base64; out is
 * undefined. */
bool base64_decode(const char *text, size_t len, void *out, size_t *out_len)
    __attribute__((warn_unused_result));

#endif
