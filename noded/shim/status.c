/* The status file: texts of `key value` lines, each closed by `end`, so that a torn one is known as such. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

ssize_t read_small_file(const char *path, char *text, size_t size)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t n = read(fd, text, size - 1);
    close(fd);
    if (n >= 0)
        text[n] = '\0';
    return n;
}

bool write_small_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = write(fd, text, strlen(text)) >= 0;
    int error = errno;
    close(fd);
    errno = error;
    return ok;
}

/* Field 22 of /proc/PID/stat; counted behind the last `)`, for a command's name may hold anything. */
uint64_t start_ticks_of(pid_t pid)
{
    char path[40], text[1024];
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    if (read_small_file(path, text, sizeof text) <= 0)
        return 0;
    char *at = strrchr(text, ')');
    for (int field = 2; at != NULL && field < 22; field++)
        at = strchr(at + 1, ' ');
    return at == NULL ? 0 : strtoull(at + 1, NULL, 10);
}

/* A text on one line, whatever a command's name brought in. */
static void flatten(char *text)
{
    for (; *text != '\0'; text++)
        if (*text == '\n')
            *text = ' ';
}

static long long microseconds(struct timeval time) { return time.tv_sec * 1000000LL + time.tv_usec; }

size_t status_format(struct status *status, char *text, size_t size)
{
    flatten(status->message);
    int n = snprintf(text, size,
                     "riseml-status 1\nattempt %s\nstate %s\nshim_pid %d\nshim_start_ticks %llu\npid %d\n"
                     "start_ticks %llu\nexec_ns %lld\n",
                     status->attempt_id, status->state, (int)status->shim_pid,
                     (unsigned long long)status->shim_start_ticks, (int)status->pid,
                     (unsigned long long)status->start_ticks, (long long)status->exec_ns);
    size_t length = (size_t)n;
    if (strcmp(status->state, "running") != 0)
        length += (size_t)snprintf(
            text + length, size - length,
            "exit_code %d\nexit_signal %d\nend_ns %lld\nlog_bytes %llu\nlost_bytes %llu\noom_kills %llu\n"
            "user_us %lld\nsystem_us %lld\nmax_rss_kib %ld\nreason %s\nmessage %s\n",
            status->exit_code, status->exit_signal, (long long)status->end_ns,
            (unsigned long long)status->log_bytes, (unsigned long long)status->lost_bytes,
            (unsigned long long)status->oom_kills, microseconds(status->usage.ru_utime),
            microseconds(status->usage.ru_stime), status->usage.ru_maxrss, status->reason, status->message);
    return length + (size_t)snprintf(text + length, size - length, "end\n");
}

/* The final text goes behind the first one, in the same file and mostly the same block: a full disk seldom
   refuses it, no old file has to be freed, and a reader takes the last text that is whole. */
bool status_append(int *fd, const char *text, size_t length)
{
    if (*fd < 0)
        *fd = open("status", O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    return *fd >= 0 && write(*fd, text, length) == (ssize_t)length;
}
