/*
 * The list of engines. The hub looks one up by the name in the configuration; everything else goes through
 * the engine's own table of functions.
 */
#include "gateway/engine/engine.h"

#include <string.h>

static const struct engine_ops *const engines[] = {&engine_memory, &engine_local};

const struct engine_ops *engine_find(const char *name)
{
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}

const char *engine_result_text(enum engine_result r)
{
    static const char *const text[ENGINE_RESULTS] = {
        [ENGINE_OK] = "kept",
        [ENGINE_BUSY] = "too much waits for the disk",
        [ENGINE_FULL] = "the data file has reached its limit",
        [ENGINE_NO_SPACE] = "the disk is full",
        [ENGINE_FAILED] = "the data file cannot be written",
    };
    return text[r];
}
