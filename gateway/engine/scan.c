/*
 * A scan: a session's filters and a position in the log go in, the messages that match come out in the order
 * of their numbers, a batch at a time. The snapshot is let go between the batches; what the scan keeps are
 * numbers, which stay true whatever is added or removed meanwhile.
 *
 * It begins a round by noting its end, `until`, the newest number or where the index ends: what lies behind
 * that belongs to the next round. Then there are two ways to go, and the cheaper one is taken:
 *
 *   streams   Each topic that matches and has a message after the position is a stream: its id and its next
 *             number. They are collected (topics of exact filters by look-up, those of wildcards by a walk
 *             over the table of topics) and merged with a heap: take the least number, give the message, look
 *             up the topic's next. A step costs one look into the index, whatever the length of the log.
 *   tail      When wildcards are among the filters and no more numbers lie between the position and `until`
 *             than there are topics to walk over, the log itself is read from the position on. So it is where
 *             the index is not complete yet, which is a round of its own: a few hundred messages at the most.
 *
 * Memory is bounded: of more than STREAMS_MAX streams, those with the least next numbers are kept, and the
 * round ends before the least number that was left out. Nothing below it is missed, and a round over more
 * topics than that gives at least STREAMS_MAX messages.
 */
#include <stdlib.h>
#include <string.h>

#include "gateway/base/clock.h"
#include "gateway/base/log.h"
#include "gateway/base/xmalloc.h"
#include "gateway/engine/reader.h"

LOG_EVENT_ONCE_A_SECOND(damaged_event, "data_file_damaged", LOG_LEVEL_ERROR);

#define STREAMS_MAX 1024
/* Looks into tables per call: a millisecond or two. */
#define STEPS_PER_CALL 1024
/* Filters that are compared with a topic in the time of a look into a table. */
#define FILTERS_PER_STEP 16

struct stream {
    uint64_t seq; /* the next message's */
    uint64_t topic;
};

enum phase { PHASE_START, PHASE_COLLECT, PHASE_MERGE, PHASE_TAIL };

struct engine_scan {
    struct engine_reader *reader;
    engine_match_fn match;
    struct engine_filter *filters;
    size_t count;
    bool wildcards;
    enum phase phase;
    uint64_t position; /* everything up to here has been given */
    uint64_t until;    /* the round's end */
    size_t filter;     /* being collected, with its walk */
    bool walking;
    struct name_walk walk;
    struct stream *heap; /* while collecting the greatest number is on top, while merging the least */
    size_t streams, room;
};

/* ---- the heap ---- */

/* Whether a belongs above b. */
static bool above(const struct engine_scan *s, const struct stream *a, const struct stream *b)
{
    return s->phase == PHASE_COLLECT ? a->seq > b->seq : a->seq < b->seq;
}

static void sift_down(struct engine_scan *s, size_t i)
{
    struct stream moved = s->heap[i];
    for (size_t child; (child = 2 * i + 1) < s->streams; i = child) {
        if (child + 1 < s->streams && above(s, &s->heap[child + 1], &s->heap[child]))
            child++;
        if (!above(s, &s->heap[child], &moved))
            break;
        s->heap[i] = s->heap[child];
    }
    s->heap[i] = moved;
}

static void sift_up(struct engine_scan *s, size_t i)
{
    struct stream moved = s->heap[i];
    for (; i > 0 && above(s, &moved, &s->heap[(i - 1) / 2]); i = (i - 1) / 2)
        s->heap[i] = s->heap[(i - 1) / 2];
    s->heap[i] = moved;
}

static void heapify(struct engine_scan *s)
{
    for (size_t i = s->streams / 2; i-- > 0;)
        sift_down(s, i);
}

static void drop_top(struct engine_scan *s)
{
    s->heap[0] = s->heap[--s->streams];
    if (s->streams)
        sift_down(s, 0);
}

/* Ends the round before this number. */
static void end_before(struct engine_scan *s, uint64_t seq)
{
    if (seq <= s->until)
        s->until = seq - 1;
}

/* Takes a stream in; when there is no room, the one with the greatest number stays out. */
static void add_stream(struct engine_scan *s, struct stream new)
{
    if (new.seq > s->until)
        return;
    if (s->streams == STREAMS_MAX) {
        if (new.seq < s->heap[0].seq) {
            end_before(s, s->heap[0].seq);
            s->heap[0] = new;
            sift_down(s, 0);
        } else if (new.seq > s->heap[0].seq) {
            end_before(s, new.seq);
        } /* else the same message, through another filter */
        return;
    }
    if (s->streams == s->room) {
        s->room = s->room ? s->room * 2 : 8;
        s->heap = xrealloc(s->heap, s->room * sizeof s->heap[0]);
    }
    s->heap[s->streams++] = new;
    sift_up(s, s->streams - 1);
}

/* ---- looking into the tables ---- */

/* The topic's first number after one; KV_NOT_FOUND: none. */
static enum kv_result next_of_topic(struct engine_scan *s, uint64_t topic, uint64_t after, uint64_t *seq)
{
    struct record_key from;
    struct kv_bytes value, key;
    key_u64_u64(&from, topic, after + 1);
    key = key_bytes(&from);
    enum kv_result r = kv_seek(s->reader->t, KV_INDEX, &key, &value);
    if (r == KV_OK && key_first(key) != topic)
        return KV_NOT_FOUND;
    *seq = r == KV_OK ? key_second(key) : 0;
    return r;
}

static bool topic_name(struct kv_bytes key, struct kv_bytes value, struct kv_bytes *name)
{
    uint64_t id;
    return record_topic_read(key, value, &id, name);
}

/* A topic that matches the filter: a stream, if it has something to give. */
static enum kv_result take_topic(struct engine_scan *s, const struct engine_filter *f, struct kv_bytes value)
{
    uint64_t id = 0, after = f->after > s->position ? f->after : s->position;
    memcpy(&id, value.data, sizeof id); /* the walk has checked that it is there */
    struct stream new = {.topic = le64toh(id)};
    enum kv_result r = next_of_topic(s, new.topic, after, &new.seq);
    if (r == KV_OK)
        add_stream(s, new);
    return r == KV_NOT_FOUND ? KV_OK : r;
}

/* One step of collecting. */
static enum kv_result collect(struct engine_scan *s)
{
    struct kv_bytes value, name;
    if (s->filter == s->count) {
        s->phase = PHASE_MERGE;
        heapify(s);
        return KV_OK;
    }
    const struct engine_filter *f = &s->filters[s->filter];
    if (!s->walking)
        name_walk_begin(&s->walk, f->text, f->len, s->match);
    s->walking = true;
    switch (name_walk_step(&s->walk, s->reader->t, KV_TOPICS, topic_name, &value, &name)) {
    case NAME_WALK_FOUND:
        return take_topic(s, f, value);
    case NAME_WALK_OTHER:
        return KV_OK;
    case NAME_WALK_END:
        s->filter++;
        s->walking = false;
        return KV_OK;
    default:
        return KV_FAILED;
    }
}

/* ---- giving ---- */

enum given { GIVEN, DECLINED, UNREADABLE };

/* Hands out a message unless its time has passed. */
static enum given give(struct engine_scan *s, uint64_t seq, struct kv_bytes value, engine_message_fn fn,
                       void *ctx, size_t *left)
{
    struct record_message m;
    if (!record_message_read(value, &m) || m.parts.seq != seq)
        return UNREADABLE;
    if (!m.parts.expires_ms || m.parts.expires_ms > clock_wall_ms()) {
        if (!fn(ctx, &m.parts, m.time_ms))
            return DECLINED;
        --*left;
    }
    s->position = seq;
    return GIVEN;
}

/* Puts the stream on top on to its topic's next message. */
static enum kv_result advance_top(struct engine_scan *s)
{
    struct stream *top = &s->heap[0];
    enum kv_result r = next_of_topic(s, top->topic, s->position, &top->seq);
    if (r == KV_OK && top->seq <= s->until)
        sift_down(s, 0);
    else if (r == KV_OK || r == KV_NOT_FOUND)
        drop_top(s);
    return r == KV_NOT_FOUND ? KV_OK : r;
}

/* One step of merging: the least number. The same topic may be there through two filters; then the second one
 * finds its message given, and becomes the same stream, so it goes. */
static enum given merge(struct engine_scan *s, engine_message_fn fn, void *ctx, size_t *left)
{
    struct stream top = s->heap[0];
    struct record_key key;
    struct kv_bytes value;
    if (top.seq <= s->position) {
        drop_top(s);
        return GIVEN;
    }
    key_u64(&key, top.seq);
    enum kv_result r = kv_get(s->reader->t, KV_LOG, key_bytes(&key), &value);
    if (r != KV_OK && r != KV_NOT_FOUND)
        return UNREADABLE;
    if (r == KV_OK) {
        enum given g = give(s, top.seq, value, fn, ctx, left);
        if (g != GIVEN)
            return g;
    } else {
        s->position = top.seq; /* removed since */
    }
    return advance_top(s) == KV_OK ? GIVEN : UNREADABLE;
}

/* Whether any filter wants a message. */
static bool wanted(const struct engine_scan *s, uint64_t seq, const struct message_parts *m)
{
    for (size_t i = 0; i < s->count; i++)
        if (s->filters[i].after < seq &&
            s->match(s->filters[i].text, s->filters[i].len, m->topic, m->topic_len))
            return true;
    return false;
}

/* One step along the log. */
static enum given follow(struct engine_scan *s, engine_message_fn fn, void *ctx, size_t *left)
{
    struct record_key from;
    struct kv_bytes key, value;
    struct record_message m;
    key_u64(&from, s->position + 1);
    key = key_bytes(&from);
    enum kv_result r = kv_seek(s->reader->t, KV_LOG, &key, &value);
    if (r == KV_NOT_FOUND || (r == KV_OK && key_first(key) > s->until)) {
        s->position = s->until;
        return GIVEN;
    }
    if (r != KV_OK || !record_message_read(value, &m))
        return UNREADABLE;
    if (wanted(s, key_first(key), &m.parts))
        return give(s, key_first(key), value, fn, ctx, left);
    s->position = key_first(key);
    return GIVEN;
}

/* ---- rounds ---- */

/* Begins a round; false: the log cannot be read. */
static bool start_round(struct engine_scan *s)
{
    uint64_t indexed;
    if (reader_head(s->reader->t, &s->until) != KV_OK || reader_indexed(s->reader->t, &indexed) != KV_OK)
        return false;
    s->streams = 0;
    s->filter = 0;
    s->walking = false;
    if (s->until < s->position)
        s->until = s->position;
    bool near = s->wildcards && s->until - s->position <= kv_count(s->reader->t, KV_TOPICS);
    s->phase = near || indexed <= s->position ? PHASE_TAIL : PHASE_COLLECT;
    if (s->phase == PHASE_COLLECT && s->until > indexed)
        s->until = indexed;
    return true;
}

/* Whether the round has given all it has. */
static bool round_is_over(const struct engine_scan *s)
{
    return s->phase == PHASE_MERGE ? s->streams == 0 || s->heap[0].seq > s->until
                                   : s->phase == PHASE_TAIL && s->position >= s->until;
}

/* Everything up to the round's end has been given. */
static void finish_round(struct engine_scan *s)
{
    if (s->position < s->until)
        s->position = s->until;
    s->phase = PHASE_START;
}

/* One step of whatever there is to do. */
static enum given step(struct engine_scan *s, engine_message_fn fn, void *ctx, size_t *left)
{
    switch (s->phase) {
    case PHASE_COLLECT:
        return collect(s) == KV_OK ? GIVEN : UNREADABLE;
    case PHASE_MERGE:
        return merge(s, fn, ctx, left);
    default:
        return follow(s, fn, ctx, left);
    }
}

/* Runs rounds until something says enough. */
static enum engine_scan_result run(struct engine_scan *s, size_t max, engine_message_fn fn, void *ctx)
{
    uint64_t head;
    if (reader_head(s->reader->t, &head) != KV_OK)
        return ENGINE_SCAN_ERROR;
    for (size_t steps = 0;; steps += s->phase == PHASE_TAIL ? 1 + s->count / FILTERS_PER_STEP : 1) {
        if (s->phase == PHASE_START && s->position >= head)
            return ENGINE_SCAN_END;
        if (steps >= STEPS_PER_CALL || max == 0)
            return ENGINE_SCAN_MORE;
        if (s->phase == PHASE_START && !start_round(s))
            return ENGINE_SCAN_ERROR;
        if (round_is_over(s)) {
            finish_round(s);
            continue;
        }
        enum given g = step(s, fn, ctx, &max);
        if (g != GIVEN)
            return g == DECLINED ? ENGINE_SCAN_MORE : ENGINE_SCAN_ERROR;
    }
}

enum engine_scan_result scan_next(struct engine_scan *s, size_t max, engine_message_fn fn, void *ctx)
{
    struct engine_reader *r = s->reader;
    if (r->kv->ops->read_begin(r->t) != KV_OK)
        return ENGINE_SCAN_ERROR;
    enum engine_scan_result result = run(s, max, fn, ctx);
    r->kv->ops->read_end(r->t);
    if (result == ENGINE_SCAN_ERROR)
        LOG(damaged_event, LOG_STR("table", "log"), LOG_U64("after", s->position));
    return result;
}

uint64_t scan_position(const struct engine_scan *s) { return s->position; }

/* The filters and their texts are one block. */
struct engine_scan *scan_new(struct engine_reader *r, const struct engine_filter *filters, size_t n,
                             uint64_t after, engine_match_fn match)
{
    struct engine_scan *s = xcalloc(1, sizeof *s);
    size_t bytes = n * sizeof filters[0];
    for (size_t i = 0; i < n; i++)
        bytes += filters[i].len;
    s->reader = r;
    s->match = match;
    s->position = after;
    s->count = n;
    s->filters = xmalloc(bytes + 1);
    char *text = (char *)&s->filters[n];
    for (size_t i = 0; i < n; i++) {
        s->filters[i] = filters[i];
        s->filters[i].text = text;
        memcpy(text, filters[i].text, filters[i].len);
        text += filters[i].len;
        s->wildcards = s->wildcards || memchr(filters[i].text, '+', filters[i].len) ||
                       memchr(filters[i].text, '#', filters[i].len);
    }
    return s;
}

void scan_free(struct engine_scan *s)
{
    if (!s)
        return;
    free(s->filters);
    free(s->heap);
    free(s);
}
