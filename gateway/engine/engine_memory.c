/*
 * The engine that keeps nothing beyond its process: the same tables and the same rules as engine_local, in
 * memory, for tests and for those who need no more. A commit is done when the call returns and is told by the
 * next poll(). Nobody but this process can read it.
 */
#include <stdio.h>

#include "gateway/base/check.h"
#include "gateway/engine/reader.h"
#include "gateway/engine/store.h"

static struct engine *memory_open_store(const struct engine_settings *s, char *why)
{
    struct engine_settings here = *s;
    (void)why;
    here.sync = ENGINE_SYNC_ALWAYS;
    struct engine *e = store_new(&here, kv_memory_open(s->max_file_bytes), false, -1);
    CHECK(e); /* memory does not fail */
    return e;
}

static struct engine *memory_open(const char *data_dir, uint32_t max_clients)
{
    struct engine_settings s = ENGINE_SETTINGS_DEFAULT;
    char why[ENGINE_WHY_MAX];
    s.data_dir = data_dir;
    s.max_clients = max_clients;
    return memory_open_store(&s, why);
}

static struct engine_reader *memory_reader_open(struct engine *e, const char *data_dir, char *why)
{
    (void)data_dir;
    if (e)
        return reader_new(store_kv(e), false, why);
    snprintf(why, ENGINE_WHY_MAX, "the engine \"memory\" can be read by its own process only");
    return NULL;
}

const struct engine_ops engine_memory = {
    .name = "memory",
    .open = memory_open,
    .open_store = memory_open_store,
    .reader_open = memory_reader_open,
    STORE_OPS,
    READER_OPS,
};
