/*
 * The memory that N connections take, by layer: kernel objects from this kernel's own slab sizes, the
 * gateway's records from cost_model.h, and what each process costs.
 */
#ifndef HOLDFAST_DOCTOR_COST_H
#define HOLDFAST_DOCTOR_COST_H

#include "gateway/tools/doctor/machine.h"
#include "gateway/tools/doctor/measure.h"

enum cost_layer { COST_KERNEL, COST_USER, COST_FIXED };
const char *cost_layer_name(enum cost_layer l);

struct cost_line {
    enum cost_layer layer;
    char name[48];
    double per_connection; /* bytes, slab waste included; COST_FIXED: 0 */
    double bytes;          /* for all connections */
    char from[96];         /* where the number comes from */
};

#define COST_MAX_LINES 48

struct cost {
    struct cost_line line[COST_MAX_LINES];
    unsigned lines;
    double layer_per_connection[COST_FIXED]; /* kernel, user */
    double layer_bytes[COST_FIXED + 1];      /* kernel, user, fixed */
    double bytes;                            /* altogether */
};

struct cost_input {
    uint64_t connections;
    unsigned workers;
    double tls; /* share */
    bool ipv6;
    const struct measurement *measured; /* replaces the kernel's lines; NULL: predicted */
};

void cost_predict(const struct machine *m, const struct cost_input *in, struct cost *out);

/* Whether connection tracking follows connections here, as far as one can see. */
bool cost_conntrack_active(const struct machine *m);

/* Bytes of a cache's object with its part of the slab's unused rest; 0 when the size is unknown. */
double cost_object_bytes(const struct machine *m, const struct slab *s);

struct cost_room {
    bool known;
    double available; /* bytes: the smaller of free memory and room in the cgroup */
    double reserve;   /* bytes of it that are left alone */
    bool cgroup;      /* the cgroup is the tighter one */
};
struct cost_room cost_room(const struct machine *m);

#endif
