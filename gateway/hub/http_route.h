/*
 * From a request to its handler.
 */
#ifndef HOLDFAST_HUB_HTTP_ROUTE_H
#define HOLDFAST_HUB_HTTP_ROUTE_H

#include "gateway/hub/http_api.h"

/* Finds the route, checks the token, calls the handler. The request is answered, now or later. */
void http_route(struct hub *h, const struct http_tokens *tokens, struct evhttp_request *req);

#endif
