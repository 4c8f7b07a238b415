/*
 * The certificates in force, as the supervisor tells them, for /metrics.
 */
#ifndef HOLDFAST_HUB_CERTIFICATES_H
#define HOLDFAST_HUB_CERTIFICATES_H

struct certificates;
struct evbuffer;
struct ipc_message;

struct certificates *certificates_new(void);
void certificates_free(struct certificates *c);

/* An IPC_CERTIFICATE. The list that is shown changes when the last one of a reload has come. */
void certificates_take(struct certificates *c, const struct ipc_message *m);

/* tls_certificate_expiry_timestamp_seconds, in the text format of Prometheus; nothing when there is none. */
void certificates_write(const struct certificates *c, struct evbuffer *out);

#endif
