/*
 * The data directory of engine_local: that it is there, who has it, and whether its file is sound. Inside the
 * engine only. `why` has ENGINE_WHY_MAX bytes everywhere and gets a sentence that says what to do.
 */
#ifndef HOLDFAST_ENGINE_LOCAL_DIR_H
#define HOLDFAST_ENGINE_LOCAL_DIR_H

#include <stdbool.h>

#include "gateway/engine/kv.h"

#define DATA_FILE "holdfast.mdb"
#define LOCK_FILE "holdfast.lock"

/* Says why; returns false. */
bool local_unusable(char *why, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The system's objection to something in the directory: errno while trying to `what`. Returns false. */
bool local_system_says(char *why, const char *dir, const char *what);

bool local_dir_is_there(const char *dir, char *why);
/* Takes the directory for this process until the descriptor is closed. *sound: every page was found to be
 * sound in this boot. -1: it cannot be had. */
int local_dir_lock(const char *dir, bool *sound, char *why);
/* Notes who has the directory, and that the file is sound. */
void local_dir_note_sound(int lock_fd);
/* Looks at the file before LMDB does; deep: at every page. */
bool local_file_is_sound(const char *file, const char *dir, bool deep, char *why);
/* Opens the tables; NULL: it cannot be done. */
struct kv *local_open_tables(const char *dir, const struct kv_lmdb_settings *s, char *why);

#endif
