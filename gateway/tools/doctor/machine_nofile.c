/*
 * Reads who is given how many descriptors: limits.conf for logins, systemd's default and the gateway's own
 * unit for services. Last entry wins, as in pam_limits and systemd; drop-in files are read in the order of
 * their names.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/tools/doctor/machine.h"

#define ACCOUNT "holdfast"
#define UNIT    "holdfast.service"

typedef void config_line_fn(struct machine *m, const char *path, char *line);

/* Calls fn for each line of the file that is not empty and not a comment. False: no such file. */
static bool each_line(struct machine *m, const char *path, config_line_fn *fn)
{
    char *text = machine_file(m, path);
    if (text == NULL)
        return false;
    char *save = NULL;
    for (char *line = strtok_r(text, "\r\n", &save); line != NULL; line = strtok_r(NULL, "\r\n", &save)) {
        line += strspn(line, " \t");
        if (*line != '\0' && *line != '#' && *line != ';')
            fn(m, path, line);
    }
    free(text);
    return true;
}

/* Files called *.conf. */
static int is_conf_cb(const struct dirent *e)
{
    size_t len = strlen(e->d_name);
    return len > 5 && strcmp(e->d_name + len - 5, ".conf") == 0;
}

/* The *.conf files of a folder by name. */
static void each_drop_in(struct machine *m, const char *folder, config_line_fn *fn)
{
    char full[MACHINE_ROOT_MAX + 512], path[512];
    snprintf(full, sizeof full, "%s%s", m->root, folder);
    struct dirent **list = NULL;
    int n = scandir(full, &list, is_conf_cb, alphasort);
    for (int i = 0; i < n; i++) {
        if ((size_t)snprintf(path, sizeof path, "%s/%s", folder, list[i]->d_name) < sizeof path)
            each_line(m, path, fn);
        free(list[i]);
    }
    free(list);
}

/* "*  hard  nofile  65536": domain, type (soft, hard or -), item, value. */
static void pam_line(struct machine *m, const char *path, char *line)
{
    char domain[64], type[8], item[16], number[32];
    if (sscanf(line, "%63s %7s %15s %31s", domain, type, item, number) != 4 || strcmp(item, "nofile") != 0)
        return;
    struct nofile_setting *s = strcmp(domain, "*") == 0       ? &m->pam_everybody
                               : strcmp(domain, ACCOUNT) == 0 ? &m->pam_account
                                                              : NULL;
    struct value v = value_parse(number, strlen(number));
    if (s == NULL || !value_known(v))
        return;
    if (strcmp(type, "hard") != 0)
        s->soft = v;
    if (strcmp(type, "soft") != 0)
        s->hard = v;
    snprintf(s->where, sizeof s->where, "%s", path);
}

/* KEY=soft:hard, or one number for both. */
static void systemd_setting(struct nofile_setting *s, const char *path, const char *line, const char *key)
{
    size_t len = strlen(key);
    if (strncmp(line, key, len) != 0)
        return;
    line += len;
    line += strspn(line, " \t");
    if (*line++ != '=')
        return;
    line += strspn(line, " \t");
    size_t soft_len = strcspn(line, ": \t");
    const char *hard = line[soft_len] == ':' ? line + soft_len + 1 : line;
    struct value soft_value = value_parse(line, soft_len);
    struct value hard_value = value_parse(hard, strcspn(hard, " \t"));
    if (!value_known(soft_value) || !value_known(hard_value))
        return;
    s->soft = soft_value;
    s->hard = hard_value;
    snprintf(s->where, sizeof s->where, "%s", path);
}

static void manager_line(struct machine *m, const char *path, char *line)
{
    systemd_setting(&m->systemd_default, path, line, "DefaultLimitNOFILE");
}

static void unit_line(struct machine *m, const char *path, char *line)
{
    systemd_setting(&m->systemd_unit, path, line, "LimitNOFILE");
}

/* From the weakest place to the strongest. */
static const char *const systemd_folders[] = {"/lib/systemd", "/usr/lib/systemd", "/usr/local/lib/systemd",
                                              "/run/systemd", "/etc/systemd"};
#define SYSTEMD_FOLDERS (sizeof systemd_folders / sizeof systemd_folders[0])

/* Main files, strongest last, then all drop-ins. */
static void read_systemd(struct machine *m)
{
    char path[256];
    for (size_t i = 0; i < SYSTEMD_FOLDERS; i++) {
        snprintf(path, sizeof path, "%s/system.conf", systemd_folders[i]);
        m->systemd |= each_line(m, path, manager_line);
        snprintf(path, sizeof path, "%s/system/" UNIT, systemd_folders[i]);
        each_line(m, path, unit_line);
    }
    for (size_t i = 0; i < SYSTEMD_FOLDERS; i++) {
        snprintf(path, sizeof path, "%s/system.conf.d", systemd_folders[i]);
        each_drop_in(m, path, manager_line);
        snprintf(path, sizeof path, "%s/system/" UNIT ".d", systemd_folders[i]);
        each_drop_in(m, path, unit_line);
    }
    snprintf(path, sizeof path, "%s/run/systemd/system", "");
    char full[MACHINE_ROOT_MAX + sizeof path];
    snprintf(full, sizeof full, "%s%s", m->root, path);
    m->systemd |= access(full, F_OK) == 0;
}

/* Logins, then services. */
void machine_read_nofile(struct machine *m)
{
    each_line(m, "/etc/security/limits.conf", pam_line);
    each_drop_in(m, "/etc/security/limits.d", pam_line);
    read_systemd(m);
}
