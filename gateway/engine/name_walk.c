/*
 * Finds the names in a table that match a topic filter. Names are in order, so those that can match a filter
 * lie together behind the bytes before its first wildcard; within them the caller's function decides. A
 * filter without wildcards is a look-up.
 */
#include "gateway/engine/reader.h"

/* The bytes of a long name's key that are its own. */
#define HEAD_MAX (NAME_KEY_LONG - 32)

void name_walk_begin(struct name_walk *w, const char *filter, size_t len, engine_match_fn match)
{
    *w = (struct name_walk){.filter = filter, .len = len, .match = match};
    while (w->literal < len && filter[w->literal] != '+' && filter[w->literal] != '#')
        w->literal++;
    w->exact = w->literal == len;
    w->parent = !w->exact && w->literal + 1 == len && filter[len - 1] == '#' && w->literal > 1;
    if (w->exact)
        key_name(&w->at, filter, len);
    else
        key_prefix(&w->at, filter, w->literal);
}

void name_walk_after(struct name_walk *w, const char *name, size_t len)
{
    struct record_key after;
    key_name(&after, name, len);
    after.bytes[after.size++] = 0;
    size_t n = after.size < w->at.size ? after.size : w->at.size;
    int c = memcmp(after.bytes, w->at.bytes, n);
    w->parent = false;
    if (w->exact)
        w->len = 0;
    if (c > 0 || (c == 0 && after.size > w->at.size))
        w->at = after;
}

/* Looks one name up. */
static enum name_walk_result look_up(struct kv_txn *t, enum kv_table table, const char *name, size_t len,
                                     name_walk_name_fn name_of, struct kv_bytes *value,
                                     struct kv_bytes *found)
{
    struct record_key key;
    key_name(&key, name, len);
    enum kv_result r = kv_get(t, table, key_bytes(&key), value);
    bool proper = r == KV_OK && name_of(key_bytes(&key), *value, found);
    *found = kv_bytes(name, len); /* the key on the stack is gone when we return */
    if (r == KV_NOT_FOUND)
        return NAME_WALK_OTHER;
    return proper ? NAME_WALK_FOUND : NAME_WALK_FAILED;
}

enum name_walk_result name_walk_step(struct name_walk *w, struct kv_txn *t, enum kv_table table,
                                     name_walk_name_fn name_of, struct kv_bytes *value, struct kv_bytes *name)
{
    if (w->exact) {
        if (w->len == 0)
            return NAME_WALK_END;
        enum name_walk_result r = look_up(t, table, w->filter, w->len, name_of, value, name);
        w->len = 0;
        return r;
    }
    if (w->parent) {
        w->parent = false;
        return look_up(t, table, w->filter, w->literal - 1, name_of, value, name);
    }
    struct kv_bytes key = key_bytes(&w->at);
    enum kv_result r = kv_seek(t, table, &key, value);
    size_t head = w->literal < HEAD_MAX ? w->literal : HEAD_MAX;
    if (r == KV_NOT_FOUND || (r == KV_OK && (key.size < head || memcmp(key.data, w->filter, head) != 0)))
        return NAME_WALK_END;
    if (r != KV_OK || !name_of(key, *value, name))
        return NAME_WALK_FAILED;
    bool matches = w->match(w->filter, w->len, name->data, name->size);
    key_copy(&w->at, key);
    w->at.bytes[w->at.size++] = 0;
    return matches ? NAME_WALK_FOUND : NAME_WALK_OTHER;
}
