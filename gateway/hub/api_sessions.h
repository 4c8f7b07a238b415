/*
 * Stored sessions as JSON, and pieces that the answers about clients share.
 */
#ifndef HOLDFAST_HUB_API_SESSIONS_H
#define HOLDFAST_HUB_API_SESSIONS_H

#include "gateway/hub/http_api.h"
#include "gateway/hub/hub_internal.h"

/* A text, or null where the bytes are not UTF-8. */
json_t *api_text(const char *data, size_t len);
/* A wall clock time as RFC 3339 text in UTC; null for 0. */
json_t *api_time(uint64_t wall_ms);

/*
 * What is stored of a session, with its subscriptions and how far it lies behind, from `cursor` on if that is
 * further than the stored one. NULL: nothing is, or its time is over. Reads a bounded number of messages.
 */
json_t *api_session_json(struct hub *h, const char *id, size_t len, uint64_t cursor);

#endif
