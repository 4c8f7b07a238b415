/*
 * The strict base64 decoder: the vectors of RFC 4648, every byte, and everything that is nearly base64.
 */
#include "tests/unit/unit.h"

#include <stdint.h>
#include <string.h>

#include "gateway/hub/base64.h"

/* Decodes into memory of exactly the promised size. Returns the length, or -1; the bytes are in *out. */
static long decode(const char *text, size_t len, unsigned char **out)
{
    size_t n = 0;
    *out = malloc(base64_decoded_max(len) + (len < 4));
    if (!base64_decode(text, len, *out, &n))
        return -1;
    ck_assert_uint_le(n, base64_decoded_max(len));
    return (long)n;
}

START_TEST(the_vectors_of_rfc_4648_decode)
{
    static const struct {
        const char *text, *bytes;
    } vectors[] = {{"", ""},
                   {"Zg==", "f"},
                   {"Zm8=", "fo"},
                   {"Zm9v", "foo"},
                   {"Zm9vYg==", "foob"},
                   {"Zm9vYmE=", "fooba"},
                   {"Zm9vYmFy", "foobar"}};
    for (size_t i = 0; i < sizeof vectors / sizeof vectors[0]; i++) {
        unsigned char *out;
        size_t want = strlen(vectors[i].bytes);
        ck_assert_int_eq(decode(vectors[i].text, strlen(vectors[i].text), &out), (long)want);
        ck_assert(memcmp(out, vectors[i].bytes, want) == 0);
        free(out);
    }
}
END_TEST

/* A plain encoder to compare with. */
static size_t encode(const unsigned char *in, size_t len, char *out)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    size_t n = 0;
    for (size_t i = 0; i < len; i += 3) {
        uint32_t bits = (uint32_t)in[i] << 16;
        bits |= i + 1 < len ? (uint32_t)in[i + 1] << 8 : 0;
        bits |= i + 2 < len ? in[i + 2] : 0;
        for (unsigned k = 0; k < 4; k++)
            out[n++] = i + k <= len ? alphabet[bits >> (18 - 6 * k) & 63] : '=';
    }
    return n;
}

START_TEST(what_was_encoded_comes_back)
{
    srand(7);
    for (size_t len = 0; len < 400; len++) {
        unsigned char in[400], *out;
        char text[600];
        for (size_t i = 0; i < len; i++)
            in[i] = (unsigned char)rand();
        ck_assert_int_eq(decode(text, encode(in, len, text), &out), (long)len);
        ck_assert(memcmp(in, out, len) == 0);
        free(out);
    }
}
END_TEST

START_TEST(what_is_nearly_base64_is_refused)
{
    static const char *const bad[] = {"Z",      "Zg",    "Zg=",      "Zm9",        "Zg===",    "====",
                                      "=",      "Z===",  "Zg==Zg==", "Zm=v",       "Z=9v",     "=m9v",
                                      "Zm9v\n", " Zm9v", "Zm 9",     "Zm9v====",   "Zh==",     "Zm9=",
                                      "Zm-v",   "Zm_v",  "Zm.v",     "\xC3\xA9vv", "Zg==Zm9v", "Zm9vZ"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        unsigned char *out;
        ck_assert_msg(decode(bad[i], strlen(bad[i]), &out) == -1, "\"%s\" was taken for base64", bad[i]);
        free(out);
    }
    unsigned char *out;
    ck_assert_int_eq(decode("Zm\0v", 4, &out), -1);
    free(out);
}
END_TEST

START_TEST(every_character_outside_the_alphabet_is_refused)
{
    unsigned good = 0;
    for (unsigned c = 0; c < 256; c++) {
        char text[4] = {'A', (char)c, 'A', 'A'};
        unsigned char *out;
        good += decode(text, 4, &out) >= 0;
        free(out);
    }
    ck_assert_uint_eq(good, 64);
}
END_TEST

static void add_tests(TCase *tc)
{
    tcase_add_test(tc, the_vectors_of_rfc_4648_decode);
    tcase_add_test(tc, what_was_encoded_comes_back);
    tcase_add_test(tc, what_is_nearly_base64_is_refused);
    tcase_add_test(tc, every_character_outside_the_alphabet_is_refused);
}

UNIT_MAIN("base64")
