/*
 * Heartbeats: when a connection must have been heard from, and what happens when it was not.
 *
 * One deadline per connection, in the wheel: the connect timeout until CONNECT has come, then 1.5 times the
 * keepalive after the last packet (MQTT 5.0 section 3.1.2.10, [MQTT-3.1.2-22]). A packet only stores the time
 * in conn->heard; the wheel finds out when it looks. A client whose bytes already wait in the socket has been
 * heard, even if this loop was too busy to read them, and so has one that is not read from for now.
 */
#include "gateway/base/clock.h"
#include "gateway/net/sockets.h"
#include "gateway/session/session_internal.h"

/* clock_ms() of the last packet, from the 32 bits that the record keeps. */
static uint64_t heard_ms(const struct conn *c, uint64_t now_ms)
{
    return now_ms - (uint32_t)((uint32_t)now_ms - c->heard);
}

/* The deadline as it stands now, in clock_ms(); 0: none. */
static uint64_t deadline(const struct sessions *s, const struct conn *c, uint64_t now_ms)
{
    if (!c->protocol)
        return heard_ms(c, now_ms) + s->config->connect_timeout_ms;
    return c->keepalive ? heard_ms(c, now_ms) + c->keepalive * 1500u : 0;
}

static struct wheel_link *link_of(void *ctx, uint32_t conn)
{
    const struct sessions *s = ctx;
    return &net_conn(s->net, conn)->wheel;
}

/* The wheel looks at a connection: still in time, or closed. */
static uint64_t look(void *ctx, uint32_t conn, uint64_t now_ms)
{
    struct sessions *s = ctx;
    const struct conn *c = net_conn(s->net, conn);
    if (c->state == CONN_DOOMED)
        return 0;
    uint64_t at = deadline(s, c, now_ms);
    if (at == 0 || at > now_ms)
        return at;
    if (c->protocol && (net_is_held(s->net, conn) || sockets_has_input(c->fd)))
        return now_ms + WHEEL_TICK_MS;
    sessions_close_conn(s, conn, c->protocol ? CLOSE_KEEPALIVE_TIMEOUT : CLOSE_CONNECT_TIMEOUT);
    return 0;
}

const struct wheel_ops heartbeat_wheel_ops = {.link = link_of, .look = look};

void heartbeat_begin(struct sessions *s, uint32_t conn)
{
    const struct conn *c = net_conn(s->net, conn);
    wheel_add(s->wheel, conn, deadline(s, c, clock_ms()));
}

void heartbeat_connect(struct sessions *s, uint32_t conn)
{
    const struct conn *c = net_conn(s->net, conn);
    uint64_t at = deadline(s, c, clock_ms());
    if (at)
        wheel_move(s->wheel, conn, at);
    else
        wheel_remove(s->wheel, conn);
}

void heartbeat_end(struct sessions *s, uint32_t conn) { wheel_remove(s->wheel, conn); }
