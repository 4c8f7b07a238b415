/*
 * The list of engines. The hub looks one up by the name in the configuration; everything else goes through
 * the engine's own table of functions.
 */
#include "gateway/engine/engine.h"

#include <string.h>

static const struct engine_ops *const engines[] = {&engine_memory};

const struct engine_ops *engine_find(const char *name)
{
    for (size_t i = 0; i < sizeof engines / sizeof engines[0]; i++)
        if (strcmp(engines[i]->name, name) == 0)
            return engines[i];
    return NULL;
}
