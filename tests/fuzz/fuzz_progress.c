/*
 * Fuzz target: any bytes as the progress of a session. What decodes must encode to the bytes that it came
 * from.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/engine/progress.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct progress_buffer *b = progress_decode(data, size);
    if (!b)
        return 0;
    const struct engine_progress *p = progress_of(b);
    char *out = malloc(size);
    if (progress_size(p) != size || !out)
        abort();
    progress_encode(p, out);
    if (memcmp(out, data, size) != 0)
        abort();
    free(out);
    progress_free(b);
    return 0;
}
