/*
 * Keys and values of the tables, byte by byte as doc/log.md has them. Numbers in keys are big-endian, so that
 * they are in order; in values they are little-endian. Knows no table and no file: bytes and structs only.
 */
#ifndef HOLDFAST_ENGINE_RECORD_H
#define HOLDFAST_ENGINE_RECORD_H

#include <endian.h>
#include <string.h>

#include "gateway/engine/engine_store.h"
#include "gateway/engine/kv.h"

/* Of the whole file; a file with a greater one is not touched, one with a smaller one is taken over. In
 * format 1 the index is complete; since 2, up to the number under RECORD_INDEXED_KEY in the table of what
 * there is once. Since 3 progress may say what is owed. */
#define RECORD_FORMAT      4
#define RECORD_INDEXED_KEY "indexed"

/* A name (topic, filter, client id) as a key: itself, or, beyond NAME_KEY_LONG - 1 bytes, its first
 * NAME_KEY_LONG - 32 bytes and the SHA-256 of it all; the value then holds the name. */
#define NAME_KEY_LONG 478
struct record_key {
    size_t size;
    unsigned char bytes[KV_KEY_MAX];
};

static inline struct kv_bytes key_bytes(const struct record_key *k) { return kv_bytes(k->bytes, k->size); }
void key_copy(struct record_key *k, struct kv_bytes from);
void key_u64(struct record_key *k, uint64_t a);
void key_u64_u64(struct record_key *k, uint64_t a, uint64_t b);
void key_name(struct record_key *k, const char *name, size_t len);
/* A name within what belongs to a number. */
void key_u64_name(struct record_key *k, uint64_t a, const char *name, size_t len);
/* Where names with this beginning start. */
void key_prefix(struct record_key *k, const char *prefix, size_t len);
/* The key of a note in the table of what there is once. */
#define RECORD_NOTE_NAME_MAX 64
#define RECORD_NOTE_MAX      256
void key_note(struct record_key *k, const char *name, size_t len);
/* The first number of a key, and the second. */
static inline uint64_t key_first(struct kv_bytes key)
{
    uint64_t be = 0;
    memcpy(&be, key.data, key.size < 8 ? key.size : 8);
    return be64toh(be);
}
static inline uint64_t key_second(struct kv_bytes key)
{
    return key.size < 16 ? 0 : key_first(kv_bytes((const char *)key.data + 8, 8));
}

/* ---- values; readers return false when the bytes are not such a value ---- */

/* A message in the log, or a retained one. */
struct record_message {
    struct message_parts parts; /* point into the value; without seq where it is the key */
    uint64_t time_ms, topic_id;
};
size_t record_message_size(const struct message_parts *m);
void record_message_write(void *at, const struct record_message *m);
bool record_message_read(struct kv_bytes value, struct record_message *m);

/* A topic that has messages. */
size_t record_topic_size(size_t name_len);
void record_topic_write(void *at, uint64_t topic_id, const char *name, size_t len);
bool record_topic_read(struct kv_bytes key, struct kv_bytes value, uint64_t *topic_id, struct kv_bytes *name);

struct record_session {
    uint64_t number; /* its own, in the keys of what belongs to it */
    struct engine_session s;
    struct kv_bytes name; /* as read */
};
size_t record_session_size(const struct record_session *s, size_t name_len);
void record_session_write(void *at, const struct record_session *s, const char *name, size_t name_len);
bool record_session_read(struct kv_bytes key, struct kv_bytes value, struct record_session *s);
/* Overwrites the cursor alone. */
void record_session_set_cursor(void *at, uint64_t cursor);

size_t record_subscription_size(const struct engine_subscription *s);
void record_subscription_write(void *at, const struct engine_subscription *s);
bool record_subscription_read(struct kv_bytes key, struct kv_bytes value, struct engine_subscription *s);

/* The part of the progress beside the cursor. */
size_t record_progress_size(const struct engine_progress *p);
void record_progress_write(void *at, const struct engine_progress *p);
/* How many of each there are (of p nothing else is filled in); then the i-th. */
bool record_progress_read(struct kv_bytes value, struct engine_progress *p);
struct engine_inflight record_progress_out(struct kv_bytes value, size_t i);
uint16_t record_progress_in(struct kv_bytes value, size_t i);
/* What is owed, one after the other: *at is 0 before the first one. False: there are no more. Its bytes point
 * into the value. */
bool record_progress_owed(struct kv_bytes value, size_t *at, struct engine_owed *out);
/* Writes a value again (of size 0: nothing is in flight) with this in place of what is owed to the same
 * filter; asked 0: nothing is. Returns its size, at most record_progress_owing_size(). */
size_t record_progress_owing_size(struct kv_bytes value, const struct engine_owed *o);
size_t record_progress_write_owing(void *at, struct kv_bytes value, const struct engine_owed *o);

/* What is counted in the file itself. */
struct record_totals {
    uint64_t log_bytes, sessions_expired;
    uint64_t head; /* the newest number of a message, in the log or retained, that was ever written */
    uint64_t expired[ENGINE_EXPIRED_REASONS], unread[ENGINE_EXPIRED_REASONS];
};
#define RECORD_TOTALS_SIZE ((3 + 2 * ENGINE_EXPIRED_REASONS) * 8)
void record_totals_write(void *at, const struct record_totals *t);
bool record_totals_read(struct kv_bytes value, struct record_totals *t);

#endif
