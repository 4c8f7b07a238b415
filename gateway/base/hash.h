/*
 * Keyed hashing of names that strangers choose (client ids, topics): SipHash-1-3, so that nobody can pick
 * names that fall into one bucket. Source: Aumasson, Bernstein, "SipHash: a fast short-input PRF", 2012.
 */
#ifndef HOLDFAST_BASE_HASH_H
#define HOLDFAST_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Draws a random key (getrandom). Called once in the supervisor, before it forks, so that all processes
 * agree. */
void hash_init(void);

/* Sets a given key. For tests. */
void hash_set_key(uint64_t k0, uint64_t k1);

uint64_t hash_bytes(const void *data, size_t len);

/* The same under a key that everybody knows, for what is stored: also the next start has this value for the
 * same bytes. Not for tables, since a stranger could find names that collide. */
uint64_t hash_known(const void *data, size_t len);

#endif
