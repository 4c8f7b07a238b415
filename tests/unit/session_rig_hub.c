/*
 * The hub of a rig: takes what the worker has sent from the queue, applies it to the engine, and leaves kept
 * messages and answers in the queues back. It knows who has which client id, and keeps the wills of those who
 * left.
 */
#include <poll.h>

#include "gateway/base/xmalloc.h"
#include "gateway/engine/progress.h"
#include "tests/unit/session_rig.h"

static void rig_committed(void *ctx, uint64_t ticket, uint64_t last_seq, enum engine_result result)
{
    struct rig *r = ctx;
    (void)last_seq;
    ck_assert_int_eq(result, ENGINE_OK);
    r->ticket = ticket;
}

static void rig_expired(void *ctx, const char *client_id, size_t len)
{
    (void)ctx, (void)client_id, (void)len;
}

void rig_commit(struct rig *r)
{
    static const struct engine_handler handler = {.committed = rig_committed, .session_expired = rig_expired};
    uint64_t ticket = r->ops->commit(r->engine);
    r->ops->poll(r->engine, &handler, r);
    while (r->ticket < ticket) {
        struct pollfd p = {.fd = r->ops->event_fd(r->engine), .events = POLLIN};
        ck_assert_int_eq(poll(&p, 1, 60000), 1);
        r->ops->poll(r->engine, &handler, r);
    }
}

static const char *rig_text(char *out, size_t size, const struct ipc_bytes *b)
{
    ck_assert_uint_lt(b->len, size);
    memcpy(out, b->data, b->len);
    out[b->len] = '\0';
    return out;
}

/* The place of a client id in the table of claims, or a free one. */
static struct rig_claim *rig_claim_of(struct rig *r, const struct ipc_bytes *id)
{
    char text[64];
    struct rig_claim *room = NULL;
    rig_text(text, sizeof text, id);
    for (size_t i = 0; i < RIG_CLAIMS; i++) {
        if (strcmp(r->claims[i].id, text) == 0 && r->claims[i].number)
            return &r->claims[i];
        if (!r->claims[i].number)
            room = &r->claims[i];
    }
    ck_assert_ptr_nonnull(room);
    strcpy(room->id, text);
    return room;
}

static bool rig_holds(struct rig *r, const struct ipc_bytes *id, uint64_t claim)
{
    const struct rig_claim *c = rig_claim_of(r, id);
    return c->number == claim && c->is_stored;
}

static void rig_trace_progress(struct rig *r, const struct ipc_bytes *id, const struct engine_progress *p)
{
    RIG_TRACE(r, "progress of %.*s: cursor %lu", (int)id->len, id->data, (unsigned long)p->cursor);
    for (unsigned i = 0; i < p->outs; i++)
        RIG_TRACE(r, " %lu:%u", (unsigned long)p->out[i].seq, p->out[i].state);
    for (unsigned i = 0; i < p->ins; i++)
        RIG_TRACE(r, " in %u", p->in[i]);
    RIG_TRACE(r, "\n");
}

static void rig_apply_progress(struct rig *r, const struct ipc_bytes *id, const struct ipc_bytes *bytes)
{
    if (!bytes->len)
        return;
    struct progress_buffer *b = progress_decode(bytes->data, bytes->len);
    ck_assert_ptr_nonnull(b);
    rig_trace_progress(r, id, progress_of(b));
    r->ops->progress(r->engine, id->data, id->len, progress_of(b));
    progress_free(b);
}

static void rig_found(void *ctx, const struct engine_session_view *v)
{
    *(struct engine_session *)ctx = v->session;
}

/* The session is this claim's now. */
static void rig_open_now(struct rig *r, struct rig_opened *o)
{
    const struct ipc_bytes id = {.data = o->id, .len = (uint32_t)strlen(o->id)};
    struct engine_session s = {.cursor = r->newest};
    struct rig_claim *c = rig_claim_of(r, &id);
    c->number = o->claim;
    c->is_stored = true;
    rig_commit(r); /* what is before it is there to be read */
    o->present = r->ops->session_get(r->reader, id.data, id.len, rig_found, &s);
    if (o->clean && o->present) {
        r->ops->session_remove(r->engine, id.data, id.len);
        s = (struct engine_session){.cursor = r->newest};
        o->present = false;
    }
    s.disconnected_ms = 0;
    s.expiry_s = o->expiry_s;
    s.extra = NULL;
    s.extra_len = 0;
    o->code = r->open_code;
    if (!o->code)
        r->ops->session_put(r->engine, id.data, id.len, &s);
    o->next = NULL;
    *r->last_opened = o;
    r->last_opened = &o->next;
}

/* A session that is held by another claim has to be closed first. */
static void rig_apply_open(struct rig *r, const struct ipc_message *m)
{
    const struct ipc_bytes *id = &m->field[3].bytes;
    const struct rig_claim *c = rig_claim_of(r, id);
    struct rig_opened *o = xcalloc(1, sizeof *o);
    rig_text(o->id, sizeof o->id, id);
    o->claim = m->field[0].num;
    o->clean = m->field[1].num;
    o->expiry_s = (uint32_t)m->field[2].num;
    if (!c->number || !c->is_stored) {
        rig_open_now(r, o);
        return;
    }
    *r->last_waiting = o;
    r->last_waiting = &o->next;
}

/* The claim is given up; who waits for the session has it. */
static void rig_give_up(struct rig *r, const char *id)
{
    for (struct rig_opened **at = &r->waiting; *at; at = &(*at)->next)
        if (strcmp((*at)->id, id) == 0) {
            struct rig_opened *o = *at;
            *at = o->next;
            if (!*at)
                r->last_waiting = at;
            rig_open_now(r, o);
            return;
        }
}

static void rig_note_will(struct rig *r, const struct ipc_message *close)
{
    const struct ipc_bytes *will = &close->field[6].bytes;
    struct ipc_message m;
    size_t used;
    const char *why;
    if (!will->len)
        return;
    ck_assert_int_eq(ipc_decode(will->data, will->len, &m, &used, &why), IPC_OK);
    ck_assert_int_eq(m.type, IPC_PUBLISH);
    ck_assert_uint_lt(r->will_count, RIG_WILLS);
    struct rig_will *w = &r->wills[r->will_count++];
    rig_text(w->id, sizeof w->id, &close->field[4].bytes);
    rig_text(w->topic, sizeof w->topic, &m.field[5].bytes);
    rig_text(w->payload, sizeof w->payload, &m.field[7].bytes);
    w->delay_s = (uint32_t)close->field[3].num;
    w->qos = (uint32_t)m.field[1].num;
    w->retain = m.field[2].num != 0;
}

void rig_wait_no_more(struct rig *r, uint64_t claim)
{
    struct rig_opened **at = &r->waiting;
    while (*at && (*at)->claim != claim)
        at = &(*at)->next;
    struct rig_opened *o = *at;
    if (!o)
        return;
    *at = o->next;
    if (!*at)
        r->last_waiting = at;
    free(o);
}

static void rig_apply_close(struct rig *r, const struct ipc_message *m)
{
    const struct ipc_bytes *id = &m->field[4].bytes;
    char text[64];
    r->closes++;
    r->closed_unsure = m->field[7].num != 0;
    if (!rig_holds(r, id, m->field[1].num)) {
        rig_wait_no_more(r, m->field[1].num);
        return;
    }
    rig_apply_progress(r, id, &m->field[5].bytes);
    if (m->field[2].num) {
        struct engine_session s = {.disconnected_ms = clock_wall_ms(), .expiry_s = (uint32_t)m->field[2].num};
        r->ops->session_put(r->engine, id->data, id->len, &s);
    } else {
        r->ops->session_remove(r->engine, id->data, id->len);
    }
    rig_note_will(r, m);
    rig_claim_of(r, id)->number = 0;
    rig_give_up(r, rig_text(text, sizeof text, id));
}

static struct message *rig_message(const struct ipc_message *m)
{
    struct message_parts parts = {.qos = (uint8_t)m->field[1].num,
                                  .retain = m->field[2].num != 0,
                                  .expires_ms = m->field[3].num,
                                  .origin = m->field[4].num,
                                  .topic = m->field[5].bytes.data,
                                  .topic_len = (uint16_t)m->field[5].bytes.len,
                                  .props = m->field[6].bytes.data,
                                  .props_len = m->field[6].bytes.len,
                                  .payload = m->field[7].bytes.data,
                                  .payload_len = m->field[7].bytes.len};
    return message_new(&parts);
}

enum engine_result rig_keep(struct rig *r, struct message *m)
{
    struct message_parts parts = {.topic = message_topic(m),
                                  .topic_len = m->topic_len,
                                  .props = message_props(m),
                                  .props_len = m->props_len,
                                  .payload = message_payload(m),
                                  .payload_len = m->payload_len,
                                  .qos = m->qos,
                                  .retain = m->retain,
                                  .expires_ms = m->expires_ms,
                                  .origin = m->origin};
    enum engine_result why = r->refuse;
    if (!why) {
        parts.seq = m->seq = r->ops->append(r->engine, &parts, &why);
        ck_assert_uint_gt(m->seq, 0);
        if (m->retain)
            r->ops->retain(r->engine, &parts);
        struct rig_kept *k = xcalloc(1, sizeof *k);
        k->message = message_ref(m);
        *r->last_kept = k;
        r->last_kept = &k->next;
        r->newest = m->seq;
        r->kept_count++;
        RIG_TRACE(r, "hub keeps %lu %.*s %.*s\n", (unsigned long)m->seq, m->topic_len, message_topic(m),
                  (int)(m->payload_len < 12 ? m->payload_len : 12), message_payload(m));
        if (r->kept_fn)
            r->kept_fn(r->kept_ctx, m);
    }
    message_unref(m);
    return why;
}

static enum engine_result rig_apply(struct rig *r, const struct ipc_message *m)
{
    const struct ipc_bytes *id = &m->field[2].bytes;
    enum engine_result result = ENGINE_OK;
    switch ((int)m->type) {
    case IPC_PUBLISH:
        result = rig_keep(r, rig_message(m));
        if (!result && m->field[8].bytes.len) /* it goes with its message */
            rig_apply_progress(r, &m->field[8].bytes, &m->field[9].bytes);
        break;
    case IPC_PROGRESS:
        r->progresses++;
        if (r->fail_progress)
            result = ENGINE_FAILED;
        else if (rig_holds(r, id, m->field[1].num))
            rig_apply_progress(r, id, &m->field[3].bytes);
        break;
    case IPC_SUBSCRIBE:
        if (r->fail_subscriptions) {
            result = ENGINE_FAILED;
        } else if (rig_holds(r, &m->field[5].bytes, m->field[1].num)) {
            struct engine_subscription s = {.filter = m->field[6].bytes.data,
                                            .len = (uint16_t)m->field[6].bytes.len,
                                            .options = (uint8_t)m->field[2].num,
                                            .identifier = (uint32_t)m->field[3].num,
                                            .since = m->field[4].num,
                                            .asked = m->field[7].num};
            r->ops->subscribe(r->engine, m->field[5].bytes.data, m->field[5].bytes.len, &s);
        }
        break;
    case IPC_UNSUBSCRIBE:
        if (r->fail_subscriptions)
            result = ENGINE_FAILED;
        else if (rig_holds(r, id, m->field[1].num))
            r->ops->unsubscribe(r->engine, id->data, id->len, m->field[3].bytes.data, m->field[3].bytes.len);
        break;
    case IPC_CLOSE:
        rig_apply_close(r, m);
        break;
    case IPC_FENCE:
        break;
    default:
        ck_abort_msg("%s is no request", ipc_type_name(m->type));
    }
    return result;
}

/* Not a request: OPEN, CLAIM, RELEASE. False: it is one. */
static bool rig_apply_other(struct rig *r, const struct ipc_message *m)
{
    if (m->type == IPC_OPEN) {
        rig_apply_open(r, m);
    } else if (m->type == IPC_CLAIM) {
        const struct ipc_bytes *id = &m->field[2].bytes;
        struct rig_claim *c = rig_claim_of(r, id);
        c->number = m->field[0].num;
        c->is_stored = false;
        r->ops->session_remove(r->engine, id->data, id->len);
    } else if (m->type == IPC_RELEASE) {
        struct rig_claim *c = rig_claim_of(r, &m->field[1].bytes);
        if (c->number == m->field[0].num)
            c->number = 0;
    } else {
        return false;
    }
    return true;
}

void rig_take(struct rig *r, unsigned max)
{
    for (; r->items && !r->hold_requests && max; max--) {
        struct rig_item *i = r->items;
        struct ipc_message m;
        size_t used;
        const char *why = "";
        ck_assert_msg(ipc_decode(i->bytes, i->len, &m, &used, &why) == IPC_OK, "%s", why);
        r->items = i->next;
        r->item_count--;
        if (!r->items)
            r->last_item = &r->items;
        RIG_TRACE(r, "hub takes %s %lu\n", ipc_type_name(m.type), (unsigned long)m.field[0].num);
        if (!rig_apply_other(r, &m)) {
            struct rig_answer *a = xcalloc(1, sizeof *a);
            a->result = rig_apply(r, &m);
            a->cookie = i->cookie;
            *r->last_answer = a;
            r->last_answer = &a->next;
        }
        free(i);
    }
    rig_commit(r);
}
