/*
 * Which known name somebody probably meant: for the messages about unknown options and subcommands.
 */
#ifndef HOLDFAST_BASE_NEAREST_H
#define HOLDFAST_BASE_NEAREST_H

/* Begin with {.word = what was written}; after all nearest_try() calls `best` is the name or NULL. */
struct nearest {
    const char *word;
    const char *best; /* points to a candidate */
    unsigned distance;
};

/* Keeps the candidate if it is nearer than the ones before and near enough to be a slip of the hand. */
void nearest_try(struct nearest *n, const char *candidate);

/* Insertions, deletions, replacements and swaps of neighbours that turn one into the other; names above 63
 * bytes are compared up to there. */
unsigned nearest_distance(const char *a, const char *b);

#endif
