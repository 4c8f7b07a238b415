/*
 * Two configurations side by side: what a reload takes over from the new one, and what it has to leave until
 * the next restart. By the table of options alone; the supervisor asks, and decides whether the new one is
 * taken at all.
 */
#include <string.h>

#include "gateway/base/check.h"
#include "gateway/base/options.h"

/* Names of options, joined in the caller's buffer. */
struct names {
    char *out;
    size_t size, len;
    unsigned count;
};

/* Adds "section.option", or `section "title"` when there is one; what does not fit is counted all the same.
 */
static void add_name(struct names *n, const char *section, const char *option, const char *title)
{
    size_t room = n->size - n->len;
    const char *comma = n->count++ ? ", " : "";
    int len = title
                  ? snprintf(n->out + n->len, room, "%s%s \"%.64s\"%s%s", comma, section, title,
                             option ? " " : "", option ? option : "")
                  : snprintf(n->out + n->len, room, "%s%s%s%s", comma, section, *section ? "." : "", option);
    if (len > 0 && (size_t)len < room)
        n->len += (size_t)len;
    else
        n->out[n->len] = '\0';
}

/* Adds every option of the section that differs and is not reloadable. */
static void add_changed(struct names *n, const struct option_section *s, const void *a, const void *b,
                        const char *title)
{
    for (const struct option_row *row = options_table(); row->name; row++)
        if (strcmp(row->section, s->name) == 0 && !row->reloadable && !option_same(row, a, b))
            add_name(n, s->name, row->name, title);
}

/* Whether a reload takes over the whole section: all of its options are reloadable. */
static bool is_reloadable(const struct option_section *s)
{
    for (const struct option_row *row = options_table(); row->name; row++)
        if (strcmp(row->section, s->name) == 0 && !row->reloadable)
            return false;
    return true;
}

/* The item with this title, or NULL. */
static const void *find_item(const struct config *c, const struct option_section *s, const char *title)
{
    for (unsigned i = 0; i < *config_items(c, s); i++)
        if (strcmp(*(char **)config_item(c, s, i), title) == 0)
            return config_item(c, s, i);
    return NULL;
}

/* Adds what differs between the items of both, and those that only one of them has. */
static void add_changed_items(struct names *n, const struct option_section *s, const struct config *running,
                              const struct config *next)
{
    for (unsigned i = 0; i < *config_items(running, s); i++) {
        const void *mine = config_item(running, s, i);
        const char *title = *(char *const *)mine;
        const void *other = find_item(next, s, title);
        if (other)
            add_changed(n, s, mine, other, title);
        else
            add_name(n, s->name, NULL, title);
    }
    for (unsigned i = 0; i < *config_items(next, s); i++) {
        const char *title = *(char *const *)config_item(next, s, i);
        if (!find_item(running, s, title))
            add_name(n, s->name, NULL, title);
    }
}

unsigned config_restart_needed(const struct config *running, const struct config *next, char *out,
                               size_t size)
{
    struct names n = {.out = out, .size = size};
    *out = '\0';
    for (const struct option_section *s = options_sections(); s->name; s++) {
        if (!s->max)
            add_changed(&n, s, running, next, NULL);
        else if (!is_reloadable(s))
            add_changed_items(&n, s, running, next);
    }
    return n.count;
}

static void swap_bytes(void *a, void *b, size_t size)
{
    unsigned char *x = a, *y = b;
    for (size_t i = 0; i < size; i++) {
        unsigned char t = x[i];
        x[i] = y[i];
        y[i] = t;
    }
}

/* The size of what an option is in the struct. */
static size_t size_of(const struct option_row *row)
{
    return row->type == OPTION_BOOL                                 ? sizeof(bool)
           : row->type == OPTION_STRING || row->type == OPTION_LIST ? sizeof(char *)
                                                                    : sizeof(uint32_t);
}

void config_swap_reloadable(struct config *a, struct config *b)
{
    for (const struct option_row *row = options_table(); row->name; row++) {
        const struct option_section *s = option_section_of(row);
        CHECK(!s->max || !row->reloadable || is_reloadable(s));
        if (!s->max && row->reloadable)
            swap_bytes((char *)a + row->offset, (char *)b + row->offset, size_of(row));
    }
    for (const struct option_section *s = options_sections(); s->name; s++) {
        if (!s->max || !is_reloadable(s))
            continue;
        swap_bytes(config_item(a, s, 0), config_item(b, s, 0), s->max * s->size);
        swap_bytes(config_items(a, s), config_items(b, s), sizeof(unsigned));
    }
}
