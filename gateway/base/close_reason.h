/*
 * Why a connection ended: every close goes through one function with one of these.
 */
#ifndef HOLDFAST_BASE_CLOSE_REASON_H
#define HOLDFAST_BASE_CLOSE_REASON_H

#include <stdbool.h>
#include <stdint.h>

enum close_reason {
#define X(name, label, is_error, mqtt5, text) CLOSE_##name,
#include "close_reason.def"
#undef X
    CLOSE_REASON_COUNT
};

/* The label in metrics and log lines, e.g. "keepalive_timeout". */
const char *close_reason_label(enum close_reason r);
const char *close_reason_text(enum close_reason r);
bool close_reason_is_error(enum close_reason r);
/* The reason code of the DISCONNECT that an MQTT 5 client is sent (section 3.14.2.1), or 0: none is sent. */
uint8_t close_reason_mqtt5(enum close_reason r);

#endif
