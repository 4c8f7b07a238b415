/*
 * Frames: made by whoever encodes a packet, held by fan-out jobs and by blocked connections' outputs, freed
 * by the last of them.
 */
#include "gateway/base/frame.h"

#include <stdlib.h>

#include "gateway/base/check.h"
#include "gateway/base/xmalloc.h"

/* A frame of len bytes that the caller fills in before anybody else sees it. */
struct frame *frame_new(size_t len)
{
    CHECK(len <= INT32_MAX);
    struct frame *f = xmalloc(sizeof *f + len);
    f->refs = 1;
    f->len = (uint32_t)len & INT32_MAX;
    f->must_arrive = 0;
    return f;
}

/* One more holder. */
struct frame *frame_ref(struct frame *f)
{
    f->refs++;
    return f;
}

/* One holder fewer. */
void frame_unref(struct frame *f)
{
    if (!f)
        return;
    CHECK(f->refs > 0);
    if (--f->refs == 0)
        free(f);
}
