/*
 * CLIENT_INFO: gathers what the connection, the session, its subscriptions and its window say about one
 * client and sends it to the hub, which asked for it on behalf of an HTTP client. It keeps nothing.
 */
#include "gateway/worker/worker_info.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/xmalloc.h"
#include "gateway/ipc/ipc_message.h"
#include "gateway/net/conn.h"
#include "gateway/net/sockets.h"
#include "gateway/session/session.h"
#include "gateway/topic/topic_tree.h"
#include "gateway/worker/hub_link.h"

#define FILTERS_TEXT_MAX (64u << 10)

/* Gathers subscription filters into lines. */
struct filters_text {
    char *text;
    size_t len;
};

static bool add_filter(void *ctx, const char *filter, size_t len, sub_options options)
{
    struct filters_text *f = ctx;
    (void)options;
    if (f->len + len + 1 > FILTERS_TEXT_MAX)
        return false;
    if (f->len)
        f->text[f->len++] = '\n';
    memcpy(f->text + f->len, filter, len);
    f->len += len;
    return true;
}

/* A client that is connected. */
static void tell_client(struct hub_link *hub, const struct sessions *s, const struct config *config,
                        uint32_t query, uint32_t id)
{
    const struct session *ses = sessions_get(s, id);
    const struct net *net = sessions_net(s);
    const struct topic_tree *tree = sessions_tree(s);
    const struct conn *c = net_conn(net, ses->conn);
    const char *listener = config->listener[c->listener].name;
    struct filters_text f = {.text = xmalloc(FILTERS_TEXT_MAX)};
    char peer[SOCKETS_ADDRESS_TEXT], tls[NET_TLS_TEXT];
    size_t identity_len;
    const char *identity = net_identity(net, ses->conn, &identity_len);
    uint64_t since = clock_wall_ms() - (clock_ms() - c->since * 1000ull), cursor;
    uint32_t inflight;
    bool is_behind;
    topic_tree_each(tree, ses->subs, add_filter, &f);
    sessions_progress(s, id, &inflight, &cursor, &is_behind);
    sockets_peer_text(c->fd, peer);
    net_tls_text(net, ses->conn, tls);
    struct ipc_message m =
        IPC_MAKE(CLIENT_INFO, IPC_NUM(query), IPC_NUM(1), IPC_NUM(c->protocol), IPC_NUM(c->keepalive),
                 IPC_NUM(since), IPC_NUM((uint32_t)((uint32_t)clock_ms() - c->heard)),
                 IPC_NUM(topic_tree_count(tree, ses->subs)), IPC_NUM(net_pending(net, ses->conn)),
                 IPC_BYTES(peer, strlen(peer)), IPC_BYTES(listener, strlen(listener)),
                 IPC_BYTES(f.text, f.len), IPC_BYTES(tls, strlen(tls)), IPC_BYTES(identity, identity_len),
                 IPC_NUM(sessions_expiry(s, id)), IPC_NUM(inflight), IPC_NUM(cursor), IPC_NUM(is_behind));
    hub_link_send(hub, &m);
    free(f.text);
}

void worker_info_tell(struct hub_link *hub, const struct sessions *s, const struct config *config,
                      uint32_t query, const char *client_id, size_t len)
{
    uint32_t id = sessions_find(s, client_id, len);
    if (id) {
        tell_client(hub, s, config, query, id);
        return;
    }
    struct ipc_message m =
        IPC_MAKE(CLIENT_INFO, IPC_NUM(query), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0),
                 IPC_NUM(0), IPC_NUM(0), IPC_BYTES("", 0), IPC_BYTES("", 0), IPC_BYTES("", 0),
                 IPC_BYTES("", 0), IPC_BYTES("", 0), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0), IPC_NUM(0));
    hub_link_send(hub, &m);
}
