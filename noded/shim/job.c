/* Starting the job's process, and finding and ending all that descends from it. */
#include "shim.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- start ---- */

static const char *search_path(const struct spec *spec)
{
    for (char **entry = spec->env; *entry != NULL; entry++)
        if (strncmp(*entry, "PATH=", 5) == 0)
            return *entry + 5;
    return "/usr/local/bin:/usr/bin:/bin";
}

/* execvpe(), but without its fallback to a shell: what was ordered runs, or the exact error is told. */
static void exec_job(const struct spec *spec)
{
    char path[PATH_MAX];
    const char *name = spec->argv[0];
    bool refused = false;
    if (strchr(name, '/') != NULL) {
        execve(name, spec->argv, spec->env);
        return;
    }
    for (const char *dir = search_path(spec);; dir++) {
        size_t length = strcspn(dir, ":");
        if (length + strlen(name) + 2 <= sizeof path) {
            int n = snprintf(path, sizeof path, "%.*s%s%s", (int)length, dir, length ? "/" : "", name);
            if (n > 0)
                execve(path, spec->argv, spec->env);
            refused |= errno == EACCES;
            if (errno != ENOENT && errno != ENOTDIR && errno != EACCES)
                return;
        }
        dir += length;
        if (*dir == '\0')
            break;
    }
    errno = refused ? EACCES : ENOENT;
}

static void reset_signals(void)
{
    struct sigaction plain = {.sa_handler = SIG_DFL};
    sigset_t none;
    for (int signal = 1; signal < NSIG; signal++)
        sigaction(signal, &plain, NULL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

/* Runs in the vfork child: memory is the shim's, so a failure is told by plain assignment. Raw system calls
   for the ids: glibc's wrappers would tell (non-existing) other threads. */
static const char *become_job(const struct spec *spec, int out_fd, int err_fd)
{
    char text[16];
    setsid();
    if (spec->has_oom_score_adj) {
        snprintf(text, sizeof text, "%d", spec->oom_score_adj);
        write_small_file("/proc/self/oom_score_adj", text);
    }
    if (spec->has_nice && setpriority(PRIO_PROCESS, 0, spec->nice) != 0)
        return "set its priority";
    for (int i = 0; i < spec->rlimit_count; i++)
        if (setrlimit((__rlimit_resource_t)spec->rlimits[i].resource, &spec->rlimits[i].value) != 0)
            return "set its resource limits";
    if (spec->has_uid) {
        if (syscall(SYS_setgroups, (long)spec->group_count, spec->groups) != 0)
            return "set its groups";
        if (syscall(SYS_setresgid, spec->gid, spec->gid, spec->gid) != 0)
            return "set its group";
        if (syscall(SYS_setresuid, spec->uid, spec->uid, spec->uid) != 0)
            return "set its user";
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0)
        return "give up privileges";
    prctl(PR_SET_PDEATHSIG, SIGKILL); /* an unwatched job must not go on if this shim is killed */
    if (spec->has_umask)
        umask(spec->umask);
    if (chdir(spec->cwd) != 0)
        return "enter its working directory";
    if (dup2(out_fd, 1) < 0 || dup2(err_fd, 2) < 0)
        return "connect its output";
    reset_signals();
    exec_job(spec);
    return "execute";
}

/* vfork: a page table less to copy, and the parent goes on only when exec has worked or failed. */
__attribute__((noinline)) void job_spawn(struct job *job, const struct spec *spec, int out_fd, int err_fd)
{
    volatile struct job *shared = job;
    shared->failed_stage = NULL;
    shared->error = 0;
    pid_t pid = vfork();
    if (pid == 0) {
        const char *stage = become_job(spec, out_fd, err_fd);
        shared->error = errno;
        shared->failed_stage = stage;
        _exit(127);
    }
    if (pid < 0) {
        shared->error = errno;
        shared->failed_stage = "create its process";
    }
    shared->pid = pid;
}

/* ---- control groups ---- */

/* With the group above it, which a daemon that ended meanwhile may have removed. */
static bool make_group(const char *path)
{
    char above[PATH_MAX];
    const char *name = strrchr(path, '/');
    if (mkdir(path, 0755) == 0 || errno == EEXIST)
        return true;
    if (errno != ENOENT || name == NULL)
        return false;
    snprintf(above, sizeof above, "%.*s", (int)(name - path), path);
    mkdir(above, 0755);
    return mkdir(path, 0755) == 0 || errno == EEXIST;
}

static bool make_groups(const struct spec *spec, const char **failed)
{
    for (int i = 0; i < spec->cgroup_make_count; i++)
        if (!make_group(*failed = spec->cgroup_make[i]))
            return false;
    for (int i = 0; i < spec->cgroup_set_count; i++) {
        char *value = strrchr(*failed = spec->cgroup_set[i], '=');
        if (value == NULL)
            continue;
        *value++ = '\0'; /* a name is left, for whom it failed */
        if (!write_small_file(*failed, value) && !spec->cgroup_set_optional[i])
            return false;
    }
    return true;
}

void cgroups_remove(const struct spec *spec)
{
    for (int i = 0; i < spec->cgroup_make_count; i++)
        rmdir(spec->cgroup_make[i]);
}

static bool join_groups(const struct spec *spec, pid_t pid)
{
    char text[16];
    snprintf(text, sizeof text, "%d", (int)pid);
    for (int i = 0; i < spec->cgroup_procs_count; i++)
        if (!write_small_file(spec->cgroup_procs[i], text))
            return errno == ESRCH; /* it has ended */
    return true;
}

/* The children of one thread, as the kernel lists them; 0 where it keeps no such list. */
static size_t children_of(const char *tid_path, pid_t *found, size_t limit)
{
    char path[128], text[4096];
    size_t count = 0;
    snprintf(path, sizeof path, "%s/children", tid_path);
    if (read_small_file(path, text, sizeof text) <= 0)
        return 0;
    for (char *at = text, *next; count < limit; at = next) {
        long pid = strtol(at, &next, 10);
        if (next == at)
            break;
        found[count++] = (pid_t)pid;
    }
    return count;
}

/* A process is born in its parent's groups: once a parent has joined, only children from before are outside. */
static bool join_below(const struct spec *spec, pid_t pid, int depth)
{
    char path[64], tid_path[96];
    bool joined = true;
    snprintf(path, sizeof path, "/proc/%d/task", (int)pid);
    DIR *threads = depth > 0 ? opendir(path) : NULL;
    if (threads == NULL)
        return true;
    for (struct dirent *entry; (entry = readdir(threads)) != NULL;) {
        pid_t children[256];
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        snprintf(tid_path, sizeof tid_path, "%s/%.16s", path, entry->d_name);
        size_t count = children_of(tid_path, children, sizeof children / sizeof *children);
        for (size_t i = 0; i < count; i++)
            joined = join_groups(spec, children[i]) && join_below(spec, children[i], depth - 1) && joined;
    }
    closedir(threads);
    return joined;
}

/* After the start, not before exec: entering a group can wait 15 ms for the kernel (a grace period of RCU), and
   the job need not wait with it. Twice, for one whose parent ended meanwhile has become our own child. */
bool job_join_cgroups(const struct job *job, const struct spec *spec, const char **failed)
{
    enum { DEPTH = 16 };
    if (!make_groups(spec, failed))
        return false;
    if (spec->cgroup_procs_count == 0)
        return true;
    *failed = spec->cgroup_procs[0];
    return join_groups(spec, job->pid) && join_below(spec, getpid(), DEPTH) && join_below(spec, getpid(), DEPTH);
}

/* ---- end ---- */

struct process {
    pid_t pid, parent;
    bool ours;
};

static pid_t parent_of(const char *pid)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%.32s/stat", pid);
    if (read_small_file(path, text, sizeof text) <= 0)
        return 0;
    char *at = strrchr(text, ')'); /* `pid (name) S ppid ...` */
    return at == NULL || strlen(at) < 4 ? 0 : (pid_t)strtol(at + 4, NULL, 10);
}

/* All processes of the machine with their parents; *count 0 where /proc can't be read. */
static struct process *processes(size_t *count)
{
    struct process *all = NULL;
    size_t size = 0;
    *count = 0;
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return NULL;
    for (struct dirent *entry; (entry = readdir(proc)) != NULL;) {
        if (!isdigit((unsigned char)entry->d_name[0]))
            continue;
        if (*count == size) {
            size = size ? size * 2 : 256;
            struct process *larger = realloc(all, size * sizeof *all);
            if (larger == NULL)
                break;
            all = larger;
        }
        all[*count] = (struct process){(pid_t)strtol(entry->d_name, NULL, 10), parent_of(entry->d_name), false};
        ++*count;
    }
    closedir(proc);
    return all;
}

static int by_pid(const void *left, const void *right)
{
    pid_t a = ((const struct process *)left)->pid, b = ((const struct process *)right)->pid;
    return (a > b) - (a < b);
}

/* Signals every descendant of this process; returns how many there are. Orphans are our children, as we are
   their subreaper, so the tree below us is complete. */
static size_t signal_tree(int signal)
{
    size_t count, found = 0;
    struct process *all = processes(&count);
    pid_t self = getpid();
    if (all != NULL)
        qsort(all, count, sizeof *all, by_pid);
    for (bool more = true; more;) {
        more = false;
        for (size_t i = 0; i < count; i++) {
            if (all[i].ours || all[i].pid == self)
                continue;
            struct process key = {all[i].parent, 0, false};
            struct process *parent = bsearch(&key, all, count, sizeof *all, by_pid);
            if (all[i].parent == self || (parent != NULL && parent->ours)) {
                all[i].ours = more = true;
                found++;
                if (signal != 0)
                    kill(all[i].pid, signal);
            }
        }
    }
    free(all);
    return found;
}

void descendants_signal(int signal) { signal_tree(signal); }

/* A process that forks faster than we look is first stopped with all its kin; a fork in progress is taken back
   by the kernel when a signal is pending, so two looks that find the same number have found them all. */
void descendants_kill(const struct spec *spec)
{
    if (spec->cgroup_kill != NULL)
        write_small_file(spec->cgroup_kill, "1");
    size_t before = 0;
    for (int look = 0; look < 20; look++) {
        size_t now = signal_tree(SIGSTOP);
        if (now == before)
            break;
        before = now;
    }
    if (before > 0)
        signal_tree(SIGKILL);
}

uint64_t cgroup_oom_kills(const struct spec *spec)
{
    char text[1024];
    if (spec->cgroup_oom == NULL || read_small_file(spec->cgroup_oom, text, sizeof text) <= 0)
        return 0;
    for (char *line = text; line != NULL; line = strchr(line, '\n')) {
        line += *line == '\n';
        if (strncmp(line, "oom_kill ", 9) == 0)
            return strtoull(line + 9, NULL, 10);
    }
    return 0;
}
