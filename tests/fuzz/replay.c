/*
 * A main() for a fuzz target that is built without libFuzzer: feeds it every file that is named, and every
 * file in the folders that are named, and prints how many those were. A finding ends the program.
 */
#include <dirent.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define MAX_SEED (16u << 20)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Feeds one file, in memory of exactly its size. */
static bool replay_file(const char *path, const struct stat *st)
{
    FILE *f = fopen(path, "rb");

    if (!f || (size_t)st->st_size > MAX_SEED) {
        perror(path);
        if (f)
            fclose(f);
        return false;
    }
    uint8_t *data = malloc(st->st_size ? (size_t)st->st_size : 1);
    size_t size = data ? fread(data, 1, (size_t)st->st_size, f) : 0;
    fclose(f);
    bool whole = data && size == (size_t)st->st_size;
    if (whole)
        LLVMFuzzerTestOneInput(data, size);
    else
        fprintf(stderr, "%s: cannot be read\n", path);
    free(data);
    return whole;
}

static bool replay(const char *path, unsigned *count);

/* Feeds every file of a folder. */
static bool replay_folder(const char *path, unsigned *count)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    bool ok = dir != NULL;

    if (!dir) {
        perror(path);
        return false;
    }
    while (ok && (entry = readdir(dir))) {
        char inner[4096];
        if (entry->d_name[0] == '.')
            continue;
        ok = (size_t)snprintf(inner, sizeof inner, "%s/%s", path, entry->d_name) < sizeof inner &&
             replay(inner, count);
    }
    closedir(dir);
    return ok;
}

/* Feeds a file or a folder. */
static bool replay(const char *path, unsigned *count)
{
    struct stat st;

    if (stat(path, &st) != 0) {
        perror(path);
        return false;
    }
    if (S_ISDIR(st.st_mode))
        return replay_folder(path, count);
    ++*count;
    return replay_file(path, &st);
}

int main(int argc, char **argv)
{
    unsigned count = 0;

    for (int i = 1; i < argc; i++)
        if (!replay(argv[i], &count))
            return EXIT_FAILURE;
    printf("%u\n", count);
    return EXIT_SUCCESS;
}
