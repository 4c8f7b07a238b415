/*
 * The table of close reasons, made from close_reason.def. Whoever ends a connection names a row; the log
 * line, the metric and the MQTT 5 DISCONNECT are taken from it. It holds no state: what is counted per
 * reason lives in counters.c.
 */
#include "gateway/base/close_reason.h"

#include "gateway/base/check.h"

struct close_reason_row {
    const char *label;
    const char *text;
    bool is_error;
    uint8_t mqtt5;
};

static const struct close_reason_row rows[CLOSE_REASON_COUNT] = {
#define X(name, label_, is_error_, mqtt5_, text_)                                                            \
    [CLOSE_##name] = {.label = (label_), .text = (text_), .is_error = (is_error_), .mqtt5 = (mqtt5_)},
#include "gateway/base/close_reason.def"
#undef X
};

/* The row of a reason. A number that is none is our own bug. */
static const struct close_reason_row *row(enum close_reason r)
{
    CHECK((unsigned)r < CLOSE_REASON_COUNT);
    return &rows[r];
}

const char *close_reason_label(enum close_reason r) { return row(r)->label; }

const char *close_reason_text(enum close_reason r) { return row(r)->text; }

bool close_reason_is_error(enum close_reason r) { return row(r)->is_error; }

uint8_t close_reason_mqtt5(enum close_reason r) { return row(r)->mqtt5; }
