/*
 * A channel between the hub and one worker. The owner sends; what it sends is encoded straight into the
 * output buffer and written by one event that runs after the callbacks of this turn of the loop, so that many
 * small messages leave in one system call. What arrives is decoded where it was read:
 *
 *      socket ──> scratch (one per process, 16 KiB) ──> whole messages, decoded in place
 *                    │ the start of a message whose end has not come
 *                    └─> partial (exactly as large as that message) <── the rest is read straight into it
 *
 * so nothing is copied twice, and an idle channel owns no buffer. Each turn reads at most TURN_BYTES, so a
 * peer that floods one channel does not starve the others. It deliberately knows no message's meaning, does
 * not reconnect, and drops nothing by itself: over the limit, the owner is told and decides.
 *
 * The memory of a channel that is freed inside one of its callbacks stays until that callback has returned.
 */
#include "gateway/ipc/ipc_channel.h"

#include <errno.h>
#include <event2/buffer.h>
#include <event2/event.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/base/check.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"

#define CHANNEL_MAGIC 0x69706368u
#define SCRATCH_BYTES (16u << 10)
#define TURN_BYTES    (256u << 10)

struct ipc_channel {
    uint32_t magic;
    int fd;
    struct ipc_channel_handler handler;
    void *ctx;
    struct event *readable; /* persistent; also made active by hand: to go on decoding, to report the end */
    struct event
        *writable; /* added while the socket is full; made active by hand to write this turn's output */
    struct evbuffer *out;
    size_t limit;    /* bytes in out */
    char *partial;   /* bytes read but not decoded: part of one message, or what came before a pause */
    size_t have;     /* bytes in partial */
    size_t capacity; /* bytes allocated for partial */
    const char *why; /* the end has come; reported by the next run of the readable event */
    unsigned busy;   /* callbacks running: memory must stay */
    bool paused;
    bool refused;  /* a message was refused since the output was last below half of the limit */
    bool blocked;  /* the socket is full: the writable event waits for it */
    bool flushing; /* the writable event has been made active */
    bool deaf;     /* nothing more is read: end of file, or the peer talked nonsense */
    bool closed;   /* the owner has been told */
    bool freed;
};

static char scratch[SCRATCH_BYTES];

LOG_EVENT(sent_event, "ipc_sent", LOG_LEVEL_DEBUG);
LOG_EVENT(received_event, "ipc_received", LOG_LEVEL_DEBUG);

/* One trace line per message, by name. */
static void trace(struct log_event *e, const struct ipc_channel *ch, const struct ipc_message *m, size_t size)
{
    if (log_wants(e))
        LOG(*e, LOG_STR("message", ipc_type_name(m->type)), LOG_I64("fd", ch->fd), LOG_U64("bytes", size));
}

/* Gives the memory back once no callback of the channel is on the stack. */
static void release_if_idle(struct ipc_channel *ch)
{
    if (!ch->freed || ch->busy > 0)
        return;
    evbuffer_free(ch->out);
    free(ch->partial);
    ch->magic = 0;
    free(ch);
}

/* Notes why the channel has ended; the owner hears of it from the loop, never from inside a call of its own.
 */
static void set_ended(struct ipc_channel *ch, const char *why)
{
    if (ch->why)
        return;
    ch->why = why;
    event_del(ch->writable);
    ch->blocked = ch->flushing = false;
    evbuffer_drain(ch->out, evbuffer_get_length(ch->out));
    event_active(ch->readable, EV_READ, 0);
}

/* Tells the owner, once. Messages still undecoded are dropped. */
static void report_end(struct ipc_channel *ch)
{
    event_del(ch->readable);
    free(ch->partial);
    ch->partial = NULL;
    ch->have = ch->capacity = 0;
    if (ch->closed)
        return;
    ch->closed = true;
    ch->handler.closed(ch->ctx, ch, ch->why);
}

/* Decodes and hands over the messages in buf until it is used up, paused or ended. Returns the bytes done
 * with; *need is the size of the message that is incomplete, or 0. */
static size_t decode_all(struct ipc_channel *ch, const char *buf, size_t len, size_t *need)
{
    size_t at = 0;
    *need = 0;
    while (at < len && !ch->paused && !ch->freed) {
        struct ipc_message m;
        size_t used;
        const char *why;
        enum ipc_result r = ipc_decode(buf + at, len - at, &m, &used, &why);
        if (r == IPC_BAD) {
            ch->deaf = true;
            set_ended(ch, why);
            return len;
        }
        if (r == IPC_MORE) {
            *need = used;
            break;
        }
        at += used;
        trace(&received_event, ch, &m, used);
        ch->handler.message(ch->ctx, ch, &m);
    }
    return at;
}

/* Makes bytes outside of partial its content, with room for `need` bytes in all. */
static void keep_rest(struct ipc_channel *ch, const char *rest, size_t len, size_t need)
{
    ch->capacity = need > len ? need : len;
    ch->partial = xmalloc(ch->capacity);
    memcpy(ch->partial, rest, len);
    ch->have = len;
}

/* Decodes what partial holds, and leaves in it what is still incomplete. */
static void decode_partial(struct ipc_channel *ch)
{
    size_t need;
    size_t used = decode_all(ch, ch->partial, ch->have, &need);
    if (ch->freed)
        return;
    ch->have -= used;
    if (ch->have == 0) {
        free(ch->partial);
        ch->partial = NULL;
        ch->capacity = 0;
        return;
    }
    if (used > 0)
        memmove(ch->partial, ch->partial + used, ch->have);
    size_t wanted = need > ch->have ? need : ch->have;
    if (wanted != ch->capacity) {
        ch->partial = xrealloc(ch->partial, wanted);
        ch->capacity = wanted;
    }
}

/* One read and the decoding of what it brought. Returns the bytes read, or 0 when there is no more now. */
static size_t read_once(struct ipc_channel *ch)
{
    bool into_partial = ch->have > 0;
    char *to = into_partial ? ch->partial + ch->have : scratch;
    size_t room = into_partial ? ch->capacity - ch->have : sizeof scratch;
    if (room > TURN_BYTES)
        room = TURN_BYTES;
    ssize_t n = read(ch->fd, to, room);
    if (n < 0) {
        if (errno != EAGAIN && errno != EINTR)
            set_ended(ch, errno == ECONNRESET ? "reset by the peer" : "read failed");
        return 0;
    }
    if (n == 0) {
        set_ended(ch, ch->have > 0 ? "closed by the peer inside a message" : "closed by the peer");
        return 0;
    }
    if (into_partial) {
        ch->have += (size_t)n;
        decode_partial(ch);
    } else {
        size_t need;
        size_t used = decode_all(ch, scratch, (size_t)n, &need);
        if (!ch->freed && used < (size_t)n)
            keep_rest(ch, scratch + used, (size_t)n - used, need);
    }
    return (size_t)n < room ? 0 : (size_t)n;
}

/* Input, the end (after a failed write, what the peer had still said comes first), or a resumed channel with
 * input left over. */
static void readable_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct ipc_channel *ch = CHECK_CAST(arg, struct ipc_channel, CHANNEL_MAGIC);
    ch->busy++;
    if (ch->have > 0 && ch->have == ch->capacity && !ch->paused)
        decode_partial(ch);
    for (size_t got = 0; !ch->freed && !ch->paused && !ch->deaf && got < TURN_BYTES;) {
        size_t n = read_once(ch);
        got += n;
        if (n == 0)
            break;
    }
    if (ch->why && !ch->freed)
        report_end(ch);
    ch->busy--;
    release_if_idle(ch);
}

/* Writes as much as the socket takes; waits for it when it is full. While the writable event is active by
 * hand it cannot be added (libevent ignores that); its run will come here again and add it. */
static void write_output(struct ipc_channel *ch)
{
    while (evbuffer_get_length(ch->out) > 0) {
        int n = evbuffer_write(ch->out, ch->fd);
        if (n > 0)
            continue;
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != EAGAIN) {
            set_ended(ch, "closed by the peer while writing");
            return;
        }
        if (!ch->blocked && !ch->flushing) {
            ch->blocked = true;
            CHECK(event_add(ch->writable, NULL) == 0);
        }
        return;
    }
    if (ch->blocked) {
        ch->blocked = false;
        event_del(ch->writable);
    }
}

/* Has this turn's output written when the callbacks that are waiting have run. */
static void schedule_write(struct ipc_channel *ch)
{
    if (ch->blocked || ch->flushing || ch->why)
        return;
    ch->flushing = true;
    event_active(ch->writable, EV_WRITE, 0);
}

/* This turn's output, or a socket that takes more again. */
static void writable_cb(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    struct ipc_channel *ch = CHECK_CAST(arg, struct ipc_channel, CHANNEL_MAGIC);
    ch->busy++;
    ch->flushing = false;
    write_output(ch);
    if (ch->refused && !ch->why && evbuffer_get_length(ch->out) <= ch->limit / 2) {
        ch->refused = false;
        if (ch->handler.drained)
            ch->handler.drained(ch->ctx, ch);
    }
    ch->busy--;
    release_if_idle(ch);
}

struct ipc_channel *ipc_channel_new(struct event_base *base, int fd, size_t limit,
                                    const struct ipc_channel_handler *h, void *ctx)
{
    struct ipc_channel *ch = xcalloc(1, sizeof *ch);
    ch->magic = CHANNEL_MAGIC;
    ch->fd = fd;
    ch->handler = *h;
    ch->ctx = ctx;
    ch->limit = limit;
    evutil_make_socket_nonblocking(fd);
    ch->out = evbuffer_new();
    ch->readable = event_new(base, fd, EV_READ | EV_PERSIST, readable_cb, ch);
    ch->writable = event_new(base, fd, EV_WRITE | EV_PERSIST, writable_cb, ch);
    CHECK(ch->out && ch->readable && ch->writable);
    CHECK(event_add(ch->readable, NULL) == 0);
    return ch;
}

void ipc_channel_free(struct ipc_channel *ch)
{
    if (!ch || ch->freed)
        return;
    ch->freed = true;
    event_free(ch->readable);
    event_free(ch->writable);
    close(ch->fd);
    release_if_idle(ch);
}

/* Whether so many bytes may be queued; if not at once, the socket is given the chance to take some first. */
static bool has_room(struct ipc_channel *ch, size_t bytes, size_t limit)
{
    for (int tries = 0; tries < 2; tries++) {
        size_t waits = evbuffer_get_length(ch->out);
        if (waits == 0 || waits + bytes <= limit)
            return !ch->why;
        if (tries == 0 && !ch->blocked)
            write_output(ch);
    }
    return false;
}

/*
 * Messages that carry clients' payloads keep to the limit; those that keep the processes in step (claims,
 * kicks) have as much room again, so that a flood of publishes does not push them out.
 */
static size_t limit_for(const struct ipc_channel *ch, enum ipc_type type)
{
    return type == IPC_PUBLISH || type == IPC_DELIVER ? ch->limit : 2 * ch->limit;
}

bool ipc_channel_send(struct ipc_channel *ch, const struct ipc_message *m)
{
    size_t n = ipc_size(m);
    if (n == 0 || ch->why || ch->freed)
        return false;
    if (!has_room(ch, n, limit_for(ch, m->type))) {
        ch->refused = true;
        return false;
    }
    struct evbuffer_iovec room;
    if (evbuffer_reserve_space(ch->out, (ev_ssize_t)n, &room, 1) != 1)
        return false;
    ipc_encode(m, room.iov_base);
    room.iov_len = n;
    CHECK(evbuffer_commit_space(ch->out, &room, 1) == 0);
    trace(&sent_event, ch, m, n);
    schedule_write(ch);
    return true;
}

void ipc_channel_pause(struct ipc_channel *ch, bool paused)
{
    if (ch->paused == paused || ch->closed || ch->freed)
        return;
    ch->paused = paused;
    if (paused) {
        event_del(ch->readable);
        if (ch->why)
            event_active(ch->readable, EV_READ, 0);
        return;
    }
    CHECK(event_add(ch->readable, NULL) == 0);
    if (ch->have > 0)
        event_active(ch->readable, EV_READ, 0);
}

bool ipc_channel_flush(struct ipc_channel *ch)
{
    if (ch->why || ch->freed)
        return true;
    write_output(ch);
    if (ch->refused)
        schedule_write(ch);
    return evbuffer_get_length(ch->out) == 0;
}

size_t ipc_channel_pending(const struct ipc_channel *ch) { return evbuffer_get_length(ch->out); }
