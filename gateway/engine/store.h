/*
 * The part that all engines with tables of their own share; inside the engine only. engine_memory.c and
 * engine_local.c open it over their kind of tables, and their rows of engine_ops are STORE_OPS.
 */
#ifndef HOLDFAST_ENGINE_STORE_IMPL_H
#define HOLDFAST_ENGINE_STORE_IMPL_H

#include "gateway/engine/engine.h"
#include "gateway/engine/kv.h"

/*
 * Takes over the tables, reads where they stand and reserves the first sequence numbers. With a thread,
 * commits are made in it; without, in commit(). `lock_fd` is closed at the end. NULL: has been logged, and
 * the tables are closed.
 */
struct engine *store_new(const struct engine_settings *s, struct kv *kv, bool threaded, int lock_fd);
void store_close(struct engine *e);
struct kv *store_kv(struct engine *e);

uint64_t store_next_seq(struct engine *e);
bool store_claim(struct engine *e, const char *client_id, size_t len, struct engine_claim mine,
                 struct engine_claim *other);
void store_release(struct engine *e, const char *client_id, size_t len, struct engine_claim mine);
bool store_find(struct engine *e, const char *client_id, size_t len, struct engine_claim *out);
void store_forget_worker(struct engine *e, uint16_t worker);
uint32_t store_count(const struct engine *e);

uint64_t store_append(struct engine *e, const struct message_parts *m, enum engine_result *why);
void store_retain(struct engine *e, const struct message_parts *m);
void store_session_put(struct engine *e, const char *client_id, size_t len, const struct engine_session *s);
void store_session_remove(struct engine *e, const char *client_id, size_t len);
void store_subscribe(struct engine *e, const char *client_id, size_t len,
                     const struct engine_subscription *s);
void store_unsubscribe(struct engine *e, const char *client_id, size_t len, const char *filter,
                       size_t filter_len);
void store_progress(struct engine *e, const char *client_id, size_t len, const struct engine_progress *p);
void store_note(struct engine *e, const char *name, const void *data, size_t len);
uint64_t store_commit(struct engine *e);
bool store_busy(const struct engine *e);
bool store_crowded(const struct engine *e);
void store_tick(struct engine *e);
int store_event_fd(const struct engine *e);
void store_poll(struct engine *e, const struct engine_handler *h, void *ctx);
void store_stats(struct engine *e, struct engine_stats *out);

#define STORE_OPS                                                                                            \
    .close = store_close, .next_seq = store_next_seq, .claim = store_claim, .release = store_release,        \
    .find = store_find, .forget_worker = store_forget_worker, .count = store_count, .append = store_append,  \
    .retain = store_retain, .session_put = store_session_put, .session_remove = store_session_remove,        \
    .subscribe = store_subscribe, .unsubscribe = store_unsubscribe, .progress = store_progress,              \
    .note = store_note, .commit = store_commit, .busy = store_busy, .crowded = store_crowded,                \
    .tick = store_tick, .event_fd = store_event_fd, .poll = store_poll, .stats = store_stats

#endif
