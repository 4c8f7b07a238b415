/*
 * A message to be published, as a JSON object of the HTTP API: topic, payload or payload_base64, qos, retain,
 * properties.
 */
#ifndef HOLDFAST_HUB_API_MESSAGE_H
#define HOLDFAST_HUB_API_MESSAGE_H

#include "gateway/hub/http_api.h"
#include "gateway/hub/hub_internal.h"

struct api_message {
    struct hub_publication out; /* points into the JSON document, the topic, and what is owned */
    char *decoded, *props;      /* owned */
};

/*
 * Reads an object. `topic`: given by the path, the object may not have one; NULL: it must. `index`: its place
 * in an array, or -1. False: *problem says what is wrong (400, 413). *m is to be released either way.
 */
bool api_message_read(struct api_message *m, const struct config *c, json_t *object,
                      const struct ipc_bytes *topic, long index, struct http_problem *problem);
void api_message_release(struct api_message *m);

#endif
