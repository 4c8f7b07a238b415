/*
 * `holdfast sessions`: lists what is stored of sessions, from the data directory itself, so that it works
 * whether the gateway runs or not, and costs a running one nothing. Sessions are read a page at a time, each
 * with its subscriptions and what it has to come; every look takes the newest state, so a list of many is
 * not a picture of one moment.
 *
 * What is counted of a session's lag is bounded. A session whose will waits for its end is shown as ending a
 * little later than it does: the gateway gives itself time to publish the will.
 */
#include <getopt.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gateway/base/clock.h"
#include "gateway/base/options.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/lag.h"
#include "gateway/tools/commands.h"
#include "proto/mqtt_topic.h"

#define PAGE         512
#define LAG_MESSAGES 10000u
#define LAG_STEPS    1000u
#define TIME_TEXT    32

/* What was asked for. */
struct request {
    struct config_source source;
    const char *client_id; /* NULL: all of them */
    unsigned long most;
    bool json;
};

/* A session, copied out of the reader. */
struct shown {
    char *client_id;
    size_t len;
    struct engine_session session;
    unsigned inflight;
    json_t *subscriptions;
    struct lag lag;
};

/* What the listing works with. */
struct listing {
    const struct request *request;
    const struct config *config;
    const struct engine_ops *ops;
    struct engine_reader *reader;
    unsigned long count;
};

/* ---- reading ---- */

/* One being read. */
struct reading {
    struct shown *shown;
    const struct config *config;
    struct lag_filters filters;
};

static json_t *text_json(const char *text, size_t len)
{
    json_t *s = json_stringn(text, len);
    return s ? s : json_null();
}

static json_t *subscription_json(const struct engine_subscription *s)
{
    json_t *doc = json_object();
    json_object_set_new(doc, "filter", text_json(s->filter, s->len));
    json_object_set_new(doc, "qos", json_integer(s->options & 3));
    json_object_set_new(doc, "identifier", s->identifier ? json_integer(s->identifier) : json_null());
    return doc;
}

static void read_cb(void *ctx, const struct engine_session_view *v)
{
    struct reading *r = ctx;
    struct shown *out = r->shown;
    *out = (struct shown){.client_id = xstrndup(v->client_id, v->client_id_len),
                          .len = v->client_id_len,
                          .session = v->session,
                          .subscriptions = json_array()};
    out->session.extra = NULL;
    for (unsigned i = 0; i < v->progress.outs; i++)
        out->inflight += v->progress.out[i].state != ENGINE_DONE;
    for (size_t i = 0; i < v->subscription_count; i++)
        json_array_append_new(out->subscriptions, subscription_json(&v->subscriptions[i]));
    lag_filters_add(&r->filters, v, r->config);
}

/* Reads one; false: there is none with this client id. */
static bool read_session(const struct listing *l, const char *client_id, size_t len, struct shown *out)
{
    struct reading r = {.shown = out, .config = l->config};
    if (!l->ops->session_get(l->reader, client_id, len, read_cb, &r))
        return false;
    out->lag = lag_count(l->ops, l->reader, &r.filters, out->session.cursor, mqtt_topic_matches, LAG_MESSAGES,
                         LAG_STEPS);
    lag_filters_free(&r.filters);
    return true;
}

static void free_shown(struct shown *s)
{
    free(s->client_id);
    json_decref(s->subscriptions);
}

/* ---- showing ---- */

/* "2026-01-31T08:00:00Z", or "-". */
static const char *time_text(uint64_t wall_ms, char out[TIME_TEXT])
{
    time_t seconds = (time_t)(wall_ms / 1000);
    struct tm tm;
    if (wall_ms == 0 || !gmtime_r(&seconds, &tm) || !strftime(out, TIME_TEXT, "%Y-%m-%dT%H:%M:%SZ", &tm))
        snprintf(out, TIME_TEXT, "-");
    return out;
}

/* When its time is over; 0: it is connected, or never. */
static uint64_t end_ms(const struct engine_session *s)
{
    if (s->disconnected_ms == 0 || s->expiry_s == ENGINE_EXPIRY_NEVER)
        return 0;
    return s->disconnected_ms + s->expiry_s * UINT64_C(1000);
}

static json_t *time_json(uint64_t wall_ms)
{
    char text[TIME_TEXT];
    return wall_ms ? json_string(time_text(wall_ms, text)) : json_null();
}

static json_t *session_json(const struct shown *s)
{
    json_t *doc = json_object(), *lag = json_object();
    bool never = s->session.expiry_s == ENGINE_EXPIRY_NEVER;
    json_object_set_new(lag, "messages", json_integer(s->lag.messages));
    json_object_set_new(lag, "more", json_boolean(s->lag.more));
    json_object_set_new(lag, "oldest", time_json(s->lag.oldest_ms));
    json_object_set_new(doc, "client_id", text_json(s->client_id, s->len));
    json_object_set_new(doc, "connected", json_boolean(s->session.disconnected_ms == 0));
    json_object_set_new(doc, "disconnected_since", time_json(s->session.disconnected_ms));
    json_object_set_new(doc, "session_expiry", never ? json_null() : json_integer(s->session.expiry_s));
    json_object_set_new(doc, "expires", time_json(end_ms(&s->session)));
    json_object_set_new(doc, "cursor", json_integer((json_int_t)s->session.cursor));
    json_object_set_new(doc, "inflight", json_integer(s->inflight));
    json_object_set_new(doc, "lag", lag);
    json_object_set(doc, "subscriptions", s->subscriptions);
    return doc;
}

static void print_json(struct listing *l, const struct shown *s)
{
    json_t *doc = session_json(s);
    fputs(l->count ? ",\n " : "[", stdout);
    json_dumpf(doc, stdout, JSON_COMPACT);
    json_decref(doc);
}

/* A client id without what would spoil a terminal. */
static void print_client_id(const struct shown *s)
{
    int width = 0;
    for (size_t i = 0; i < s->len; i++) {
        unsigned char c = (unsigned char)s->client_id[i];
        putchar(c < ' ' || c == 0x7f ? '?' : c);
        width += (c & 0xC0) != 0x80; /* not a continuation in UTF-8 */
    }
    printf("%*s", width < 24 ? 24 - width : 0, "");
}

static void print_row(struct listing *l, const struct shown *s)
{
    char since[TIME_TEXT], expires[TIME_TEXT], oldest[TIME_TEXT], lag[32];
    if (l->count == 0)
        printf("%-24s  %-20s  %-20s  %-16s  %8s  %8s  %5s  %s\n", "CLIENT", "AWAY SINCE", "EXPIRES", "CURSOR",
               "INFLIGHT", "LAG", "SUBS", "OLDEST UNREAD");
    snprintf(lag, sizeof lag, "%u%s", s->lag.messages, s->lag.more ? "+" : "");
    print_client_id(s);
    printf("  %-20s  %-20s  %-16llu  %8u  %8s  %5zu  %s\n",
           s->session.disconnected_ms ? time_text(s->session.disconnected_ms, since) : "connected",
           s->session.disconnected_ms && s->session.expiry_s == ENGINE_EXPIRY_NEVER
               ? "never"
               : time_text(end_ms(&s->session), expires),
           (unsigned long long)s->session.cursor, s->inflight, lag, json_array_size(s->subscriptions),
           time_text(s->lag.oldest_ms, oldest));
}

/* The subscriptions of the one that was asked for. */
static void print_subscriptions(const struct shown *s)
{
    size_t i;
    json_t *sub;
    json_array_foreach(s->subscriptions, i, sub)
    {
        const char *filter = json_string_value(json_object_get(sub, "filter"));
        printf("  qos %d  %s\n", (int)json_integer_value(json_object_get(sub, "qos")),
               filter ? filter : "(not UTF-8)");
    }
}

static void show(struct listing *l, const struct shown *s)
{
    if (l->request->json)
        print_json(l, s);
    else
        print_row(l, s);
    l->count++;
}

/* ---- all of them ---- */

struct page {
    struct {
        char *text;
        size_t len;
    } id[PAGE];
    size_t count;
};

/* Behind the clients' are the groups of shared subscriptions, which are no sessions of anybody. */
static bool page_cb(void *ctx, const struct engine_session_view *v)
{
    struct page *p = ctx;
    if (v->client_id_len && (unsigned char)v->client_id[0] == 0xFF)
        return false;
    p->id[p->count].text = xstrndup(v->client_id, v->client_id_len);
    p->id[p->count++].len = v->client_id_len;
    return true;
}

static void show_page(struct listing *l, const struct page *p)
{
    uint64_t now = clock_wall_ms();
    for (size_t i = 0; i < p->count && l->count < l->request->most; i++) {
        struct shown s;
        if (!read_session(l, p->id[i].text, p->id[i].len, &s))
            continue; /* gone meanwhile */
        uint64_t end = end_ms(&s.session);
        if (!end || end > now)
            show(l, &s);
        free_shown(&s);
    }
}

static void show_all(struct listing *l)
{
    static struct page page;
    char *after = xstrdup("");
    size_t after_len = 0, got;
    do {
        page.count = 0;
        l->ops->session_walk(l->reader, after, after_len, PAGE, page_cb, &page);
        got = page.count;
        show_page(l, &page);
        if (got) {
            free(after);
            after = page.id[got - 1].text;
            after_len = page.id[got - 1].len;
        }
        for (size_t i = 0; i + 1 < got; i++)
            free(page.id[i].text);
    } while (got == PAGE && l->count < l->request->most);
    free(after);
}

static bool show_one(struct listing *l)
{
    struct shown s;
    const char *id = l->request->client_id;
    if (!read_session(l, id, strlen(id), &s)) {
        fprintf(stderr, "no session of '%s' is stored\n", id);
        return false;
    }
    show(l, &s);
    if (!l->request->json)
        print_subscriptions(&s);
    free_shown(&s);
    return true;
}

/* ---- the command ---- */

static int list_sessions(const struct request *request, const struct config *c)
{
    char why[ENGINE_WHY_MAX];
    struct listing l = {.request = request, .config = c, .ops = engine_find(c->engine)};
    l.reader = l.ops ? l.ops->reader_open(NULL, c->data_dir, why) : NULL;
    if (!l.reader) {
        fprintf(stderr, "%s\n", l.ops ? why : "the configured engine does not exist");
        return EXIT_FAILURE;
    }
    bool ok = true;
    if (request->client_id)
        ok = show_one(&l);
    else
        show_all(&l);
    if (request->json)
        puts(l.count ? "]" : "[]");
    else if (!request->client_id)
        printf("%s%lu session%s\n", l.count ? "\n" : "", l.count, l.count == 1 ? "" : "s");
    l.ops->reader_close(l.reader);
    return ok && fflush(stdout) == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}

/* Reads the arguments; false: they are wrong. */
static bool read_arguments(struct request *r, int argc, char **argv)
{
    static const struct option long_options[] = {{"json", no_argument, NULL, 'j'}, {0}};
    char *end;
    *r = (struct request){.most = ~0ul};
    for (int opt; (opt = getopt_long(argc, argv, "c:d:n:", long_options, NULL)) != -1;) {
        if (opt == 'c')
            r->source.file = optarg;
        else if (opt == 'd')
            r->source.data_dir = optarg;
        else if (opt == 'j')
            r->json = true;
        else if (opt != 'n' || *optarg < '0' || *optarg > '9' || !(r->most = strtoul(optarg, &end, 10)) ||
                 *end)
            return false;
    }
    if (optind < argc)
        r->client_id = argv[optind++];
    return optind == argc && !(r->source.data_dir && !*r->source.data_dir);
}

int cmd_sessions(int argc, char **argv)
{
    struct request request;
    struct config c;
    if (!read_arguments(&request, argc, argv))
        return COMMAND_USAGE;
    if (config_load_source(&c, &request.source, stderr) != 0)
        return EXIT_FAILURE;
    int status = list_sessions(&request, &c);
    config_free(&c);
    return status;
}
