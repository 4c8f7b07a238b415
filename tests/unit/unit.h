/*
 * What every unit test program needs: Check, and a main() made from one suite.
 */
#ifndef HOLDFAST_TESTS_UNIT_H
#define HOLDFAST_TESTS_UNIT_H

#include <check.h>
#include <stdlib.h>

/* Use at the end of the file, after `static void add_tests(TCase *tc)`. */
#define UNIT_MAIN(name)                                                                                      \
    int main(void)                                                                                           \
    {                                                                                                        \
        Suite *s = suite_create(name);                                                                       \
        TCase *tc = tcase_create(name);                                                                      \
        tcase_set_timeout(tc, 120);                                                                          \
        add_tests(tc);                                                                                       \
        suite_add_tcase(s, tc);                                                                              \
        SRunner *r = srunner_create(s);                                                                      \
        srunner_run_all(r, CK_NORMAL);                                                                       \
        int failed = srunner_ntests_failed(r);                                                               \
        srunner_free(r);                                                                                     \
        return failed ? EXIT_FAILURE : EXIT_SUCCESS;                                                         \
    }

#endif
