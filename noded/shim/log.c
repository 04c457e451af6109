/* CRI lines: `2026-11-23T20:00:00.123456789Z stdout F text`.

   Segments are named by the stream offset of their first byte (20 digits), so a reader finds any offset without
   a record of rotations. Files are only ever appended to: a write that fails half-way is taken up at that byte,
   and what can't be kept meanwhile is counted and told in a line of its own. */
#include "shim.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum {
    OUT_BYTES = 512 << 10,
    PIPE_BYTES = 1 << 20,
    DEFAULT_PIPE_BYTES = 64 << 10,
    STAMP_BYTES = 30,
    PREFIX_BYTES = 40, /* stamp, blank, stream, blank, flag, blank */
};
static const int64_t RETRY_NS = 200 * (int64_t)NS_PER_MS;

static void digits(char *at, int count, long value)
{
    for (int i = count - 1; i >= 0; i--, value /= 10)
        at[i] = (char)('0' + value % 10);
}

/* The prefix of lines read now. The date is worked out once a second. */
static void make_prefix(char prefix[PREFIX_BYTES], const char *stream)
{
    static time_t cached_second = -1;
    static char cached[STAMP_BYTES];
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (now.tv_sec != cached_second) {
        struct tm tm;
        gmtime_r(&now.tv_sec, &tm);
        memcpy(cached, "0000-00-00T00:00:00.000000000Z", STAMP_BYTES);
        digits(cached, 4, tm.tm_year + 1900);
        digits(cached + 5, 2, tm.tm_mon + 1);
        digits(cached + 8, 2, tm.tm_mday);
        digits(cached + 11, 2, tm.tm_hour);
        digits(cached + 14, 2, tm.tm_min);
        digits(cached + 17, 2, tm.tm_sec);
        cached_second = now.tv_sec;
    }
    memcpy(prefix, cached, STAMP_BYTES);
    digits(prefix + 20, 9, now.tv_nsec);
    prefix[STAMP_BYTES] = ' ';
    memcpy(prefix + STAMP_BYTES + 1, stream, 6);
    memcpy(prefix + STAMP_BYTES + 7, " F ", 3);
}

static bool too_many_segments(const struct cri_log *log)
{
    if (log->max_segments <= 0)
        return false;
    DIR *dir = opendir("log");
    if (dir == NULL)
        return false;
    int64_t count = 0;
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;)
        count += entry->d_name[0] >= '0' && entry->d_name[0] <= '9';
    closedir(dir);
    return count >= log->max_segments;
}

static int open_segment(struct cri_log *log)
{
    char name[32];
    if (log->fd >= 0 && too_many_segments(log)) {
        errno = EDQUOT;
        return -1;
    }
    snprintf(name, sizeof name, "log/%020llu.log", (unsigned long long)log->total);
    int fd = open(name, O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0600);
    if (fd < 0)
        return -1;
    if (log->fd >= 0)
        close(log->fd);
    log->fd = fd;
    log->segment_bytes = 0;
    return 0;
}

bool log_open(struct cri_log *log, const struct spec *spec)
{
    static char out[OUT_BYTES]; /* pages are only there once touched */
    memset(log, 0, sizeof *log);
    log->fd = -1;
    log->segment_limit = spec->log_segment_bytes > 0 ? (uint64_t)spec->log_segment_bytes : 50 << 20;
    log->max_segments = spec->log_max_segments;
    log->out = out;
    return open_segment(log) == 0;
}

/* How much of what waits may go into the current segment: whole lines up to its limit, at least one line in an
   empty segment, and always the rest of a line that was begun. 0: rotate first. */
static size_t fitting(const struct cri_log *log)
{
    const char *from = log->out + log->out_done;
    size_t pending = log->out_len - log->out_done;
    uint64_t room = log->segment_bytes < log->segment_limit ? log->segment_limit - log->segment_bytes : 0;
    if (pending <= room)
        return pending;
    const char *cut = room > 0 ? memrchr(from, '\n', (size_t)room) : NULL;
    bool in_line = log->out_done > 0 && from[-1] != '\n';
    if (cut == NULL && (in_line || log->segment_bytes == 0))
        cut = memchr(from, '\n', pending);
    return cut == NULL ? 0 : (size_t)(cut - from) + 1;
}

static void write_out(struct cri_log *log, int64_t now_ns)
{
    while (log->out_done < log->out_len) {
        size_t count = fitting(log);
        ssize_t written = -1;
        if (count == 0) {
            if (open_segment(log) == 0)
                continue;
        } else
            written = write(log->fd, log->out + log->out_done, count);
        if (written < 0) {
            if (errno == EINTR)
                continue;
            log->blocked = true;
            log->error = errno;
            log->retry_at_ns = now_ns + RETRY_NS;
            return;
        }
        log->out_done += (size_t)written;
        log->total += (uint64_t)written;
        log->segment_bytes += (uint64_t)written;
    }
    log->out_done = log->out_len = 0;
    log->blocked = false;
}

static void put(struct cri_log *log, const char *prefix, const char *text, size_t length, char flag)
{
    char *at = log->out + log->out_len;
    memcpy(at, prefix, PREFIX_BYTES);
    at[PREFIX_BYTES - 2] = flag;
    memcpy(at + PREFIX_BYTES, text, length);
    at[PREFIX_BYTES + length] = '\n';
    log->out_len += PREFIX_BYTES + length + 1;
}

static void report_gap(struct cri_log *log)
{
    char prefix[PREFIX_BYTES], text[MESSAGE_SIZE];
    make_prefix(prefix, "stderr");
    int length = snprintf(text, sizeof text, "riseml: %llu bytes of output were lost here: %s",
                          (unsigned long long)log->lost_unreported, strerror(log->error));
    put(log, prefix, text, (size_t)length, 'F');
    log->lost_unreported = 0;
}

void log_flush(struct cri_log *log, int64_t now_ns)
{
    if (log->blocked && now_ns < log->retry_at_ns)
        return;
    write_out(log, now_ns);
    if (log->out_len == 0 && log->lost_unreported > 0) {
        report_gap(log);
        write_out(log, now_ns);
    }
}

static void line(struct cri_log *log, const char *prefix, const char *text, size_t length, char flag,
                 int64_t now_ns)
{
    if (log->lost_unreported > 0 || log->out_len + PREFIX_BYTES + length + 1 > OUT_BYTES)
        log_flush(log, now_ns);
    if (log->lost_unreported > 0 || log->out_len + PREFIX_BYTES + length + 1 > OUT_BYTES) {
        uint64_t lost = length + (flag == 'F');
        log->lost_bytes += lost;
        log->lost_unreported += lost;
        return;
    }
    put(log, prefix, text, length, flag);
}

void stream_flush_partial(struct cri_stream *stream, struct cri_log *log, int64_t now_ns)
{
    char prefix[PREFIX_BYTES];
    if (stream->have == 0)
        return;
    make_prefix(prefix, stream->name);
    line(log, prefix, stream->buf, stream->have, 'P', now_ns);
    stream->have = 0;
}

size_t stream_read(struct cri_stream *stream, struct cri_log *log, int64_t now_ns)
{
    char prefix[PREFIX_BYTES];
    ssize_t got = read(stream->fd, stream->buf + stream->have, READ_BYTES);
    if (got < 0 && (errno == EINTR || errno == EAGAIN))
        return 0;
    if (got <= 0) {
        stream_flush_partial(stream, log, now_ns);
        close(stream->fd);
        stream->fd = -1;
        return 0;
    }
    if (got >= DEFAULT_PIPE_BYTES && !stream->enlarged) {
        stream->enlarged = true; /* it prints much: fewer wake-ups; a refusal (quota) does no harm */
        (void)fcntl(stream->fd, F_SETPIPE_SZ, PIPE_BYTES);
    }
    stream->read_at_ns = now_ns;
    make_prefix(prefix, stream->name);
    const char *at = stream->buf, *unseen = stream->buf + stream->have;
    const char *end = unseen + got;
    for (;;) {
        const char *newline = memchr(unseen, '\n', (size_t)(end - unseen));
        const char *stop = newline != NULL ? newline : end;
        for (; stop - at >= LINE_MAX_BYTES + (newline != NULL); at += LINE_MAX_BYTES)
            line(log, prefix, at, LINE_MAX_BYTES, 'P', now_ns);
        if (newline == NULL)
            break;
        line(log, prefix, at, (size_t)(newline - at), 'F', now_ns);
        at = unseen = newline + 1;
    }
    stream->have = (size_t)(end - at);
    memmove(stream->buf, at, stream->have);
    return (size_t)got;
}
