/*
 * Requests to the hub, and their answers. A request names the session and what its client is owed by a
 * cookie; the answer may come after the session has ended, and then concerns nobody.
 */
#include "gateway/session/requests.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/counters.h"
#include "gateway/base/xmalloc.h"
#include "gateway/ipc/ipc_message.h"
#include "gateway/session/catch_up.h"
#include "gateway/session/handle_ack.h"
#include "gateway/session/will.h"
#include "gateway/session/window.h"

/* Codes that wait until the subscriptions are stored. */
struct owed_codes {
    struct owed_codes *next;
    uint64_t claim;
    uint32_t session, count;
    uint16_t packet_id;
    uint8_t type;
    unsigned char codes[];
};

static struct session_cookie cookie_of(const struct sessions *s, uint32_t id, enum request_kind kind,
                                       uint16_t packet_id)
{
    return (struct session_cookie){
        .claim = session_at(s, id)->claim, .session = id, .packet_id = packet_id, .kind = (uint8_t)kind};
}

static bool request(struct sessions *s, uint32_t id, struct ipc_message *m, enum request_kind kind,
                    uint16_t packet_id)
{
    struct session_cookie cookie = cookie_of(s, id, kind, packet_id);
    return s->handler->request(s->ctx, m, &cookie);
}

bool request_publish(struct sessions *s, uint32_t id, const struct message *m, enum request_kind kind,
                     uint16_t packet_id)
{
    const struct session *ses = session_at(s, id);
    size_t len = 0, progress_len = 0;
    const char *client_id = "";
    void *progress = NULL;
    if (kind == REQUEST_PUBREC && session_is_stored(s, ses)) {
        client_id = sessions_client_id(s, id, &len);
        progress = window_progress(s, ses, true, &progress_len);
    }
    struct ipc_message out =
        IPC_MAKE(PUBLISH, IPC_NUM(0), IPC_NUM(m->qos), IPC_NUM(m->retain), IPC_NUM(m->expires_ms),
                 IPC_NUM(m->origin), IPC_BYTES(message_topic(m), m->topic_len),
                 IPC_BYTES(message_props(m), m->props_len), IPC_BYTES(message_payload(m), m->payload_len),
                 IPC_BYTES(client_id, len), IPC_BYTES(progress, progress_len));
    bool taken = request(s, id, &out, kind, packet_id);
    free(progress);
    return taken;
}

bool request_progress(struct sessions *s, uint32_t id, enum request_kind kind, uint16_t packet_id)
{
    const struct session *ses = session_at(s, id);
    struct window *w = window_of(s, ses);
    size_t len, progress_len;
    const char *client_id = sessions_client_id(s, id, &len);
    CHECK(!window_is_asking(w));
    void *progress = window_progress(s, ses, false, &progress_len);
    struct ipc_message m = IPC_MAKE(PROGRESS, IPC_NUM(0), IPC_NUM(ses->claim), IPC_BYTES(client_id, len),
                                    IPC_BYTES(progress, progress_len));
    bool taken = request(s, id, &m, kind, packet_id);
    if (taken && w)
        w->flags &= ~(uint32_t)WINDOW_DIRTY;
    free(progress);
    return taken;
}

void request_store(struct sessions *s, uint32_t id)
{
    struct window *w = window_of(s, session_at(s, id));
    if (!w || w->flags & WINDOW_STORING || !session_is_stored(s, session_at(s, id)))
        return;
    if (window_is_asking(w))
        w->flags |= WINDOW_TO_STORE;
    else if (request_progress(s, id, REQUEST_STORED, 0))
        window_storing(s, w);
}

bool request_ack(struct sessions *s, uint32_t id, enum request_kind kind, uint16_t packet_id, uint8_t code)
{
    struct session_cookie cookie = cookie_of(s, id, kind, packet_id);
    struct ipc_message fence = IPC_MAKE(FENCE, IPC_NUM(0));
    cookie.code = code;
    return s->handler->request(s->ctx, &fence, &cookie);
}

bool request_subscribe(struct sessions *s, uint32_t id, const char *filter, size_t len, uint8_t options,
                       uint32_t identifier, uint64_t since, uint64_t asked)
{
    size_t id_len;
    const char *client_id = sessions_client_id(s, id, &id_len);
    struct ipc_message m = IPC_MAKE(SUBSCRIBE, IPC_NUM(0), IPC_NUM(session_at(s, id)->claim),
                                    IPC_NUM(options), IPC_NUM(identifier), IPC_NUM(since),
                                    IPC_BYTES(client_id, id_len), IPC_BYTES(filter, len), IPC_NUM(asked));
    return request(s, id, &m, REQUEST_FILTER, 0);
}

bool request_unsubscribe(struct sessions *s, uint32_t id, const char *filter, size_t len)
{
    size_t id_len;
    const char *client_id = sessions_client_id(s, id, &id_len);
    struct ipc_message m = IPC_MAKE(UNSUBSCRIBE, IPC_NUM(0), IPC_NUM(session_at(s, id)->claim),
                                    IPC_BYTES(client_id, id_len), IPC_BYTES(filter, len));
    return request(s, id, &m, REQUEST_FILTER, 0);
}

void request_close(struct sessions *s, uint32_t id, struct message *will)
{
    const struct session *ses = session_at(s, id);
    const struct session_extra *extra = session_extra(s, ses);
    const struct session_rare *rare = session_rare(s, ses);
    const struct window *w = window_of(s, ses);
    size_t len, progress_len = 0, refused_len = 0, will_len = 0;
    const char *client_id = sessions_client_id(s, id, &len);
    void *progress = extra->flags & EXTRA_OPENING ? NULL : window_progress(s, ses, true, &progress_len);
    void *will_bytes = will ? will_encode(will, &will_len) : NULL;
    struct closing c = {.claim = ses->claim,
                        .expiry_s = extra->expiry_s,
                        .is_unsure = w && catch_up_unsure_to(w),
                        .will_delay_s = rare ? rare->will_delay_s : 0,
                        .client_id = {.data = client_id, .len = (uint32_t)len},
                        .progress = {.data = progress, .len = (uint32_t)progress_len},
                        .will = {.data = will_bytes, .len = (uint32_t)will_len}};
    if (window_is_asking(w)) {
        void *refused = window_progress(s, ses, false, &refused_len);
        close_later(s, id, &c, &(struct ipc_bytes){.data = refused, .len = (uint32_t)refused_len});
        free(refused);
    } else {
        close_send(s, &c);
    }
    free(progress);
    free(will_bytes);
}

/* ---- answers ---- */

/* Sends SUBACK or UNSUBACK. */
static void acknowledge(struct sessions *s, uint32_t conn, enum mqtt_type type, uint16_t packet_id,
                        const unsigned char *codes, uint32_t count)
{
    const struct conn *c = net_conn(s->net, conn);
    struct mqtt_packet answer = {.type = type};
    answer.u.suback.packet_id = packet_id;
    answer.u.suback.codes = (struct mqtt_bytes){.data = (const char *)codes, .len = count};
    if (c->state != CONN_DOOMED)
        mqtt_send(s, conn, c->protocol, &answer);
}

void acknowledge_later(struct sessions *s, uint32_t id, enum mqtt_type type, uint16_t packet_id,
                       const unsigned char *codes, uint32_t count, bool ask)
{
    const struct session *ses = session_at(s, id);
    if (!ask && !session_is_stored(s, ses)) {
        acknowledge(s, ses->conn, type, packet_id, codes, count);
        catch_up_if_room(s, id);
        return;
    }
    struct owed_codes *o = xmalloc(sizeof *o + count);
    *o = (struct owed_codes){
        .claim = ses->claim, .session = id, .count = count, .packet_id = packet_id, .type = (uint8_t)type};
    memcpy(o->codes, codes, count);
    struct ipc_message fence = IPC_MAKE(FENCE, IPC_NUM(0));
    if (!request(s, id, &fence, type == MQTT_SUBACK ? REQUEST_SUBACK : REQUEST_UNSUBACK, packet_id)) {
        free(o);
        sessions_close(s, id, CLOSE_NO_MEMORY);
        return;
    }
    *s->last_owed = o;
    s->last_owed = &o->next;
}

static void drop_owed(struct sessions *s, struct owed_codes **at)
{
    struct owed_codes *o = *at;
    *at = o->next;
    if (s->last_owed == &o->next)
        s->last_owed = at;
    free(o);
}

/* The codes wait in the order of the requests, so they are the first ones. A session that has ended is owed
 * nothing any more. */
static void acknowledge_owed(struct sessions *s, const struct session_cookie *c, bool is_live)
{
    struct owed_codes **at = &s->owed;
    while (*at &&
           ((*at)->session != c->session || (*at)->claim != c->claim || (*at)->packet_id != c->packet_id))
        at = &(*at)->next;
    if (!*at)
        return;
    const struct owed_codes *o = *at;
    if (is_live)
        acknowledge(s, session_at(s, o->session)->conn, o->type, o->packet_id, o->codes, o->count);
    drop_owed(s, at);
    if (is_live)
        catch_up_if_room(s, c->session);
}

void requests_free(struct sessions *s)
{
    while (s->owed)
        drop_owed(s, &s->owed);
    closes_free(s);
}

/* An answer for a session that has ended. */
static void done_afterwards(struct sessions *s, const struct session_cookie *c, bool is_kept)
{
    if (c->kind == REQUEST_SUBACK || c->kind == REQUEST_UNSUBACK)
        acknowledge_owed(s, c, false);
    else if (c->kind == REQUEST_PUBREC)
        close_answered(s, c, is_kept);
}

/* What is done is stored as done: its packet identifiers are free. */
static void is_stored(struct sessions *s, uint32_t id, bool ok)
{
    struct session *ses = session_at(s, id);
    struct window *w = window_of(s, ses);
    if (!w)
        return;
    window_stored(s, w, ok);
    catch_up_if_room(s, id);
    window_tidy(s, ses);
}

void sessions_done(struct sessions *s, const struct session_cookie *c, int result)
{
    if (c->kind == REQUEST_NONE)
        return;
    if (!pool_is_live(s->pool, c->session) || session_at(s, c->session)->claim != c->claim) {
        done_afterwards(s, c, result == ENGINE_OK);
        return;
    }
    switch ((enum request_kind)c->kind) {
    case REQUEST_PUBACK:
    case REQUEST_PUBREC:
        publish_answered(s, c->session, c->packet_id, c->kind == REQUEST_PUBREC, (enum engine_result)result);
        break;
    case REQUEST_PUBREL:
    case REQUEST_PUBCOMP:
        if (result == ENGINE_FAILED) /* it is stored with CLOSE, or the exchange goes on where it was */
            sessions_close(s, c->session, CLOSE_NOT_KEPT);
        else
            send_ack(s, c->session, c->kind == REQUEST_PUBREL ? MQTT_PUBREL : MQTT_PUBCOMP, c->packet_id,
                     c->code);
        break;
    case REQUEST_STORED:
        is_stored(s, c->session, result != ENGINE_FAILED);
        break;
    case REQUEST_SUBACK:
    case REQUEST_UNSUBACK:
        acknowledge_owed(s, c, true);
        break;
    case REQUEST_FILTER:
        if (result == ENGINE_FAILED) /* what was not stored must not be granted */
            sessions_close(s, c->session, CLOSE_NOT_KEPT);
        break;
    case REQUEST_NONE:
        break;
    }
}
