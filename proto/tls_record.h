/*
 * TLS records after the handshake: keys and bytes in, bytes or an alert out. TLS 1.3 (RFC 8446) and the AEAD
 * suites of TLS 1.2 (RFC 5246, 5288, 7905), for either end of a connection whose handshake OpenSSL has done.
 * The state of a connection is one flat run of bytes, without pointers, that may be copied to another
 * process; no SSL object, buffer or socket belongs to it.
 *
 * Life of a state: zeroed memory of tls_record_size() bytes, aligned to 8; tls_record_start() puts the keys
 * in; then open and seal in any order; it is all zero bytes again once it has no use any more: after
 * close_notify went both ways, after a fatal alert in either direction, after tls_record_wipe(). Whoever ends
 * the connection otherwise calls tls_record_wipe(). A half that is closed has its keys wiped at once.
 *
 * What open and seal make of one state is a sequence: sealed bytes must be sent, all of them, in order.
 */
#ifndef HOLDFAST_PROTO_TLS_RECORD_H
#define HOLDFAST_PROTO_TLS_RECORD_H

#include "proto/tls_keys.h"

#define TLS_HEADER_LEN      5
#define TLS_PLAINTEXT_MAX   16384                          /* content of one record */
#define TLS_RECORD_MAX      (TLS_HEADER_LEN + 16384 + 256) /* a longer one is refused by its header */
#define TLS_SMALL_MAX       32                             /* room for one alert or KeyUpdate */
#define TLS_UPDATE_AFTER    (UINT64_C(1) << 23)            /* own KeyUpdate; RFC 8446 section 5.5: 2^24.5 */
#define TLS_ASK_UPDATE_FROM (UINT64_C(1) << 43)            /* records read before the peer is asked for one */
#define TLS_SEQ_MAX         ((UINT64_C(1) << 44) - 1) /* no record has this number: the connection ends */
#define TLS_QUIET_MAX       31                        /* records in a row without application data */

/* RFC 8446 section 6; what this codec sends. */
enum tls_alert {
    TLS_ALERT_CLOSE_NOTIFY = 0,
    TLS_ALERT_UNEXPECTED_MESSAGE = 10,
    TLS_ALERT_BAD_RECORD_MAC = 20,
    TLS_ALERT_RECORD_OVERFLOW = 22,
    TLS_ALERT_ILLEGAL_PARAMETER = 47,
    TLS_ALERT_DECODE_ERROR = 50,
    TLS_ALERT_PROTOCOL_VERSION = 70,
    TLS_ALERT_INTERNAL_ERROR = 80,
    TLS_ALERT_USER_CANCELED = 90,
    TLS_ALERT_NO_RENEGOTIATION = 100, /* 1.2 */
    TLS_ALERT_NONE = 255,
};

/* One connection. 16 bytes, then the keys for writing and for reading (tls_suite_info.half_len each). */
struct tls_record {
    uint64_t write_seq : 44; /* number of the next record, under the present key */
    uint64_t suite : 3;      /* enum tls_suite; TLS_SUITE_NONE: no keys, ended */
    uint64_t is_client : 1;
    uint64_t write_closed : 1; /* close_notify sent */
    uint64_t read_closed : 1;  /* close_notify received */
    uint64_t failed : 1;       /* BAD was returned: only an alert can be sent */
    uint64_t owes_update : 1;  /* the peer asked for a KeyUpdate: goes before the next application data */
    uint64_t asked_update : 1; /* the peer has been asked for one */
    uint64_t quiet : 5;        /* records in a row without application data */
    uint64_t msg_have : 3;     /* bytes seen of the header of a message that is not complete, 0 to 4 */
    uint64_t fragment : 3;     /* as in tls_handover */
    uint64_t read_seq : 44;
    uint64_t msg_rule : 2;  /* which message that is: row of a table in tls_record.c */
    uint64_t msg_left : 18; /* bytes of its body to come; before all of the header: its length so far */
    uint8_t keys[];
};

/* 136, 200, 168 for the suites of TLS 1.3 in the order of enum tls_suite, 56, 88, 104 for those of 1.2. */
#define TLS_STATE_MAX (16 + 2 * (TLS_SECRET_MAX + TLS_KEY_MAX + TLS_NONCE_LEN))
size_t tls_record_size(enum tls_suite suite);

/* What is to be known of a connection at the moment it is taken over from OpenSSL. Nothing is kept of it. */
struct tls_handover {
    enum tls_suite suite;
    bool is_client;
    /* 1.3: under the first application keys (a server's session tickets count). 1.2: since ChangeCipherSpec
     * (Finished counts, so at least 1). A connection that saw a KeyUpdate cannot be handed over. */
    uint64_t records_written, records_read;
    /* What max_fragment_length was agreed on (RFC 6066 section 4): 1 to 4 for content of 2^9 to 2^12 bytes at
     * most in a record, both ways; 0: the usual 2^14. */
    uint8_t fragment;
    const uint8_t *client_secret, *server_secret;                 /* 1.3: CLIENT_, SERVER_TRAFFIC_SECRET_0 */
    const uint8_t *master_secret, *client_random, *server_random; /* 1.2: 48, 32, 32 bytes */
};

/* False when there is no such suite, a number of records is out of range, or OpenSSL fails: all zero then. */
bool tls_record_start(struct tls_crypto *c, struct tls_record *r, const struct tls_handover *h)
    __attribute__((warn_unused_result));

enum tls_result {
    TLS_DATA,    /* application data */
    TLS_MORE,    /* not a whole record yet; nothing was taken */
    TLS_CONTROL, /* a record without application data; there may be an alert to send */
    TLS_CLOSED,  /* close_notify: the peer sends no more; what follows is ignored */
    TLS_REFUSED, /* the peer sent an error alert; the state is wiped */
    TLS_BAD,     /* malformed: send the alert, close */
};

struct tls_opened {
    size_t used; /* bytes of the input that are dealt with; 0 for MORE and BAD */
    size_t need; /* MORE: call again with at least this many, at most TLS_RECORD_MAX */
    uint8_t *data;
    size_t len;           /* DATA: the content, in place: inside the bytes that were used. 1 or more */
    enum tls_alert alert; /* CONTROL, BAD: to send, or TLS_ALERT_NONE. REFUSED: what was received */
    const char *why;      /* BAD: static text */
};

/*
 * Opens the first record in `in`, in place. Call it again behind what was used as long as there is input.
 * KeyUpdate is obeyed, and answered by the next tls_record_seal() (RFC 8446 section 4.6.3 asks for no more).
 * A client skips session tickets. Attempts to renegotiate (1.2) are CONTROL with no_renegotiation.
 *
 * BAD and the alert:
 *   unexpected_message  a type that has no place after the handshake (change_cipher_spec too), outside or
 *                       inside; no type but padding; an empty handshake or alert record; another record
 *                       between the parts of a message (1.3); a message behind KeyUpdate in its record; more
 * than TLS_QUIET_MAX records in a row without application data (RFC 8446 4.6.3, 5, 5.1, 5.4) bad_record_mac
 * not authentic, or too short to be (5.2) record_overflow     more than 2^14 + 256 bytes, or more than 2^14
 * of content (5.1, 5.2, 5.4) protocol_version    1.2: not 3.3. In 1.3 the field is ignored, except that it is
 * authenticated (5.1, 5.2) decode_error        a message or alert of a length that it cannot have (6)
 *   illegal_parameter   KeyUpdate neither 0 nor 1 (4.6.3); 1.2: alert level neither 1 nor 2
 *   internal_error      out of sequence numbers (5.3), or OpenSSL failed
 *   none                the state had ended before
 */
enum tls_result tls_record_open(struct tls_crypto *c, struct tls_record *r, uint8_t *in, size_t len,
                                struct tls_opened *o) __attribute__((warn_unused_result));

/* How many bytes tls_record_seal() will write now. */
size_t tls_record_sealed_size(const struct tls_record *r, size_t len);

/*
 * Application data, in records as large as they may be, after a KeyUpdate if one is owed or due. Returns the
 * bytes written to `out`, which may not overlap `in`. 0, and nothing is changed: less room than
 * tls_record_sealed_size(), or nothing may be sent any more (closed, failed, out of sequence numbers). 0 and
 * a wiped state: OpenSSL failed. With len 0 only a KeyUpdate that is owed or due is written, or nothing.
 */
size_t tls_record_seal(struct tls_crypto *c, struct tls_record *r, const uint8_t *in, size_t len,
                       uint8_t *out, size_t room) __attribute__((warn_unused_result));

/*
 * A KeyUpdate of our own; `ask`: the peer shall do the same. Returns bytes as above; 0 in 1.2.
 */
size_t tls_record_key_update(struct tls_crypto *c, struct tls_record *r, bool ask, uint8_t *out, size_t room)
    __attribute__((warn_unused_result));

/*
 * An alert, at most TLS_SMALL_MAX bytes. close_notify ends writing; user_canceled and no_renegotiation are
 * warnings; every other one is fatal and wipes the state. In 1.2 close_notify is answered by close_notify.
 */
size_t tls_record_alert(struct tls_crypto *c, struct tls_record *r, enum tls_alert alert, uint8_t *out,
                        size_t room) __attribute__((warn_unused_result));

/* All zero bytes from here on. */
void tls_record_wipe(struct tls_record *r);

#endif
