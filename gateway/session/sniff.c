/*
 * Somebody speaks something else to an MQTT port. A browser or curl gets a short HTTP answer that says so;
 * everybody else is closed.
 */
#include <stdio.h>
#include <string.h>

#include "gateway/session/session_internal.h"
#include "proto/http_head.h"

static const char wrong_port[] =
    "This port speaks MQTT. The HTTP API is on the address that `api { bind = ... }` names.\n";

/* Answers an HTTP request, or what was meant to be one. */
static void answer_http(struct sessions *s, uint32_t conn, unsigned status)
{
    char out[512];
    int len = snprintf(
        out, sizeof out,
        "HTTP/1.1 %u %s\r\nContent-Type: text/plain\r\nContent-Length: %zu\r\nConnection: close\r\n\r\n%s",
        status, status == 400 ? "Bad Request" : "Not HTTP/1.1", sizeof wrong_port - 1, wrong_port);
    net_send(s->net, conn, out, (size_t)len);
}

size_t sniff_input(struct sessions *s, uint32_t conn, const unsigned char *data, size_t len, size_t *need)
{
    struct http_head head;
    size_t used = 0;
    unsigned status = 400;
    const char *why;
    if (data[0] >= 'A' && data[0] <= 'Z') {
        switch (http_head_decode((const char *)data, len, &head, &used, &status, &why)) {
        case HTTP_MORE:
            *need = len + 1;
            return 0;
        case HTTP_OK:
            answer_http(s, conn, 400);
            break;
        case HTTP_BAD:
            break;
        }
    }
    net_close(s->net, conn, CLOSE_NOT_MQTT);
    return len;
}
