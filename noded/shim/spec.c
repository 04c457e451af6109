/* The spec: `key NUL value NUL` pairs, the first `riseml-spec` `1`, the last `end` ``.

   The file doubles as the record of intent. Who holds its flock owns the attempt: the shim for as long as it
   lives; noded for the moment in which it declares an attempt as never started (and renames the file). */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MAX_SPEC_BYTES = 16 << 20, MAX_ATTEMPT_ID = 255 };

static bool is(const char *key, const char *name) { return strcmp(key, name) == 0; }

static int64_t number(const char *value, bool *bad)
{
    char *end;
    errno = 0;
    long long parsed = strtoll(value, &end, 10);
    if (end == value || *end != '\0' || errno != 0)
        *bad = true;
    return parsed;
}

/* `resource:soft:hard`, numbers as the kernel counts them, -1 for no limit. */
static bool parse_rlimit(struct rlimit_order *order, const char *value)
{
    char *end;
    order->resource = (int)strtol(value, &end, 10);
    if (*end != ':')
        return false;
    order->value.rlim_cur = (rlim_t)strtoll(end + 1, &end, 10);
    if (*end != ':')
        return false;
    order->value.rlim_max = (rlim_t)strtoll(end + 1, &end, 10);
    return *end == '\0';
}

static void parse_pair(struct spec *spec, const char *key, char *value, bool *bad)
{
    if (is(key, "cwd"))
        spec->cwd = value;
    else if (is(key, "attempt"))
        spec->attempt_id = value;
    else if (is(key, "uid"))
        spec->uid = (uid_t)number(value, bad), spec->has_uid = true;
    else if (is(key, "gid"))
        spec->gid = (gid_t)number(value, bad);
    else if (is(key, "group") && spec->group_count < MAX_GROUPS)
        spec->groups[spec->group_count++] = (gid_t)number(value, bad);
    else if (is(key, "nice"))
        spec->nice = (int)number(value, bad), spec->has_nice = true;
    else if (is(key, "oom_score_adj"))
        spec->oom_score_adj = (int)number(value, bad), spec->has_oom_score_adj = true;
    else if (is(key, "umask"))
        spec->umask = (mode_t)number(value, bad), spec->has_umask = true;
    else if (is(key, "grace_ms"))
        spec->grace_ms = number(value, bad);
    else if (is(key, "orphan_grace_ms"))
        spec->orphan_grace_ms = number(value, bad);
    else if (is(key, "log_segment_bytes"))
        spec->log_segment_bytes = number(value, bad);
    else if (is(key, "log_max_segments"))
        spec->log_max_segments = number(value, bad);
    else if (is(key, "cgroup_make") && spec->cgroup_make_count < MAX_CGROUPS)
        spec->cgroup_make[spec->cgroup_make_count++] = value;
    else if ((is(key, "cgroup_set") || is(key, "cgroup_try")) && spec->cgroup_set_count < MAX_CGROUP_SETTINGS) {
        spec->cgroup_set_optional[spec->cgroup_set_count] = is(key, "cgroup_try");
        spec->cgroup_set[spec->cgroup_set_count++] = value;
    } else if (is(key, "cgroup_procs") && spec->cgroup_procs_count < MAX_CGROUPS)
        spec->cgroup_procs[spec->cgroup_procs_count++] = value;
    else if (is(key, "cgroup_kill"))
        spec->cgroup_kill = value;
    else if (is(key, "cgroup_oom"))
        spec->cgroup_oom = value;
    else if (is(key, "contact_file"))
        spec->contact_file = value;
    else if (is(key, "contact_timeout_ms"))
        spec->contact_timeout_ms = number(value, bad);
    else if (is(key, "rlimit") && spec->rlimit_count < MAX_RLIMITS)
        *bad |= !parse_rlimit(&spec->rlimits[spec->rlimit_count++], value);
    else if (strncmp(key, "noded.", 6) != 0) /* noded's own notes */
        *bad = true;
}

/* Two passes, so that argv and env are arrays of the right size. */
static const char *parse(struct spec *spec, char *data, size_t size)
{
    size_t pairs = 0, strings = 0, argc = 0, envc = 0;
    for (size_t i = 0; i < size; i++)
        strings += data[i] == '\0';
    if (size == 0 || data[size - 1] != '\0' || strings % 2 != 0)
        return "the spec is torn";
    pairs = strings / 2;
    spec->argv = calloc(pairs + 1, sizeof(char *));
    spec->env = calloc(pairs + 1, sizeof(char *));
    if (spec->argv == NULL || spec->env == NULL)
        return "no memory for the spec";
    char *key = data;
    bool bad = false, ended = false;
    for (size_t i = 0; i < pairs; i++) {
        char *value = key + strlen(key) + 1;
        if (i == 0) {
            if (!is(key, "riseml-spec") || !is(value, "1"))
                return "the spec is of another version";
        } else if (is(key, "argv"))
            spec->argv[argc++] = value;
        else if (is(key, "env"))
            spec->env[envc++] = value;
        else if (is(key, "end"))
            ended = i == pairs - 1;
        else
            parse_pair(spec, key, value, &bad);
        if (bad)
            return "the spec has an entry that this shim does not understand";
        key = value + strlen(value) + 1;
    }
    if (!ended)
        return "the spec is torn";
    if (spec->attempt_id != NULL && strlen(spec->attempt_id) > MAX_ATTEMPT_ID)
        return "the attempt's id is too long";
    if (argc == 0 || spec->attempt_id == NULL || spec->cwd == NULL)
        return "the spec lacks argv, attempt or cwd";
    return NULL;
}

bool spec_read(struct spec *spec, const char **why)
{
    struct stat info, named;
    memset(spec, 0, sizeof *spec);
    spec->grace_ms = 10000;
    spec->orphan_grace_ms = 2000;
    spec->log_segment_bytes = 50 << 20;
    spec->fd = open("spec", O_RDONLY | O_CLOEXEC);
    *why = "there is no spec to read";
    if (spec->fd < 0)
        return false;
    *why = "another shim or noded holds this attempt";
    if (flock(spec->fd, LOCK_EX | LOCK_NB) != 0)
        return false;
    *why = "noded gave this attempt up";
    if (fstat(spec->fd, &info) != 0 || stat("spec", &named) != 0 || named.st_ino != info.st_ino)
        return false;
    *why = "this attempt was started before";
    if (access("status", F_OK) == 0 || errno != ENOENT)
        return false;
    *why = "the spec is too large";
    if (info.st_size > MAX_SPEC_BYTES)
        return false;
    size_t size = (size_t)info.st_size, have = 0;
    char *data = malloc(size + 1);
    *why = "no memory for the spec";
    if (data == NULL)
        return false;
    while (have < size) {
        ssize_t n = read(spec->fd, data + have, size - have);
        if (n <= 0)
            break;
        have += (size_t)n;
    }
    *why = parse(spec, data, have);
    return *why == NULL;
}
