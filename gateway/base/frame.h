/*
 * Bytes that are ready to be sent, shared by all connections that still have to send them: one allocation,
 * one reference count, never changed after it is made.
 */
#ifndef HOLDFAST_BASE_FRAME_H
#define HOLDFAST_BASE_FRAME_H

#include <stddef.h>
#include <stdint.h>

struct frame {
    uint32_t refs;
    uint32_t len : 31;
    uint32_t must_arrive : 1; /* it is not dropped to make room for others; set by who makes it */
    unsigned char data[];
};

/* A frame of len bytes to be filled in, with one reference. */
struct frame *frame_new(size_t len);
struct frame *frame_ref(struct frame *f);
/* Drops a reference; the last one frees. NULL is ignored. */
void frame_unref(struct frame *f);

#endif
