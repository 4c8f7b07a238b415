/*
 * Self-signed certificates for the servers that the bench starts.
 */
#ifndef HOLDFAST_BENCH_CERTIFICATE_H
#define HOLDFAST_BENCH_CERTIFICATE_H

#include <stdbool.h>

/*
 * Writes a certificate for "localhost" and 127.0.0.1, and its key, as PEM: ECDSA P-256, or RSA with 2048
 * bits. Each of the two is made once in the life of the process. False: said why on stderr.
 */
bool certificate_write(bool rsa, const char *certificate_path, const char *key_path);

#endif
