/*
 * Addresses as they stand in a configuration file: numeric host and port. Names are not looked up, so that
 * checking a file needs no network and a start does not wait for one.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "gateway/base/options.h"

/* Reads a port, digits to the end of the text. */
static bool parse_port(const char *text, in_port_t *out)
{
    size_t len = strspn(text, "0123456789");
    if (len == 0 || len > 5 || text[len] || atoi(text) > 65535)
        return false;
    *out = htons((uint16_t)atoi(text));
    return true;
}

unsigned config_parse_address(const char *text, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    struct sockaddr_in *v4 = (struct sockaddr_in *)out;
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)out;
    bool bracket = *text == '[';
    const char *end = bracket ? strstr(text, "]:") : strrchr(text, ':');
    char host[INET6_ADDRSTRLEN];
    if (!end || (size_t)(end - text) >= sizeof host)
        return 0;
    size_t len = (size_t)(end - text) - bracket;
    memcpy(host, text + bracket, len);
    host[len] = '\0';
    if (bracket) {
        v6->sin6_family = AF_INET6;
        return inet_pton(AF_INET6, host, &v6->sin6_addr) == 1 && parse_port(end + 2, &v6->sin6_port)
                   ? sizeof *v6
                   : 0;
    }
    v4->sin_family = AF_INET;
    return inet_pton(AF_INET, host, &v4->sin_addr) == 1 && parse_port(end + 1, &v4->sin_port) ? sizeof *v4
                                                                                              : 0;
}

bool config_is_loopback(const char *text)
{
    struct sockaddr_storage addr;
    if (!config_parse_address(text, &addr))
        return false;
    if (addr.ss_family == AF_INET)
        return (ntohl(((struct sockaddr_in *)&addr)->sin_addr.s_addr) >> 24) == IN_LOOPBACKNET;
    const struct in6_addr *v6 = &((struct sockaddr_in6 *)&addr)->sin6_addr;
    return IN6_IS_ADDR_LOOPBACK(v6) || (IN6_IS_ADDR_V4MAPPED(v6) && v6->s6_addr[12] == IN_LOOPBACKNET);
}
