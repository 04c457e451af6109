/* riseml-shim: the parent of one attempt's job. See riseml_shim.c for the theory. */
#ifndef RISEML_SHIM_H
#define RISEML_SHIM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/resource.h>
#include <sys/types.h>
#include <time.h>

enum {
    MAX_GROUPS = 256,
    MAX_CGROUPS = 16,
    MAX_CGROUP_SETTINGS = 32,
    MAX_RLIMITS = 16,
    REASON_SIZE = 64,
    MESSAGE_SIZE = 256,
    NS_PER_MS = 1000000,
    LINE_MAX_BYTES = 16 << 10, /* of text; longer lines are split */
    READ_BYTES = 256 << 10,
    STREAM_BUFFER_BYTES = LINE_MAX_BYTES + READ_BYTES,
};

/* How a shim exits. */
enum {
    SHIM_TOLD = 0, /* its job ended, and noded was told so */
    SHIM_TOLD_NOT_STARTED = 1,
    SHIM_NO_DIRECTORY = 2,
    SHIM_REFUSED = 3, /* there is nothing for it to start */
    SHIM_UNHEARD = 4, /* the end is in the status file only */
};

/* spec.c: what noded ordered. All strings point into one buffer that lives as long as the shim. */
struct rlimit_order {
    int resource;
    struct rlimit value;
};

struct spec {
    int fd; /* stays open: its flock says that a shim lives */
    char **argv;
    char **env;
    const char *attempt_id, *cwd;
    bool has_uid, has_nice, has_oom_score_adj, has_umask;
    uid_t uid;
    gid_t gid;
    gid_t groups[MAX_GROUPS];
    int group_count;
    int nice, oom_score_adj;
    mode_t umask;
    int64_t grace_ms, orphan_grace_ms;
    int64_t log_segment_bytes, log_max_segments; /* 0: no limit on the count */
    const char *cgroup_make[MAX_CGROUPS]; /* directories, removed again at the end */
    int cgroup_make_count;
    char *cgroup_set[MAX_CGROUP_SETTINGS]; /* `file=value` */
    bool cgroup_set_optional[MAX_CGROUP_SETTINGS];
    int cgroup_set_count;
    const char *cgroup_procs[MAX_CGROUPS]; /* files that the job's pid is written to */
    int cgroup_procs_count;
    const char *cgroup_kill; /* v2: cgroup.kill */
    const char *cgroup_oom;  /* a file with a line `oom_kill N` */
    const char *contact_file;
    int64_t contact_timeout_ms;
    struct rlimit_order rlimits[MAX_RLIMITS];
    int rlimit_count;
};

/* Takes the lock and reads the spec of the attempt in the current directory.
   False: *why says what is wrong, and nothing may be started. */
bool spec_read(struct spec *spec, const char **why);

/* log.c: CRI lines in segment files named by the offset of their first byte. */
struct cri_log {
    int fd;
    uint64_t total;         /* bytes written over all segments: the log's length */
    uint64_t segment_bytes; /* of these, in the current segment */
    uint64_t segment_limit;
    int64_t max_segments;
    char *out;
    size_t out_len, out_done;
    bool blocked; /* the last write failed; more output is dropped once `out` is full */
    int error;
    int64_t retry_at_ns;
    uint64_t lost_bytes, lost_unreported;
};

struct cri_stream {
    int fd; /* -1: ended */
    const char *name;
    char *buf;
    size_t have; /* start of a line that has not ended */
    bool enlarged;
    int64_t read_at_ns;
};

bool log_open(struct cri_log *log, const struct spec *spec);
void log_flush(struct cri_log *log, int64_t now_ns);
/* One read() and the lines that it completed; returns the bytes read. */
size_t stream_read(struct cri_stream *stream, struct cri_log *log, int64_t now_ns);
/* Writes an unterminated line out, flagged P. */
void stream_flush_partial(struct cri_stream *stream, struct cri_log *log, int64_t now_ns);

/* job.c: processes. */
struct job {
    pid_t pid;
    const char *failed_stage; /* NULL: it runs */
    int error;
};

void job_spawn(struct job *job, const struct spec *spec, int out_fd, int err_fd);
/* All that descends from this process: one look that sends `signal`; or everything ended by SIGKILL. */
/* Makes them with their limits and moves the job there. False: *failed names the file, errno says why. */
bool job_join_cgroups(const struct job *job, const struct spec *spec, const char **failed);
void cgroups_remove(const struct spec *spec);
void descendants_signal(int signal);
void descendants_kill(const struct spec *spec);
uint64_t cgroup_oom_kills(const struct spec *spec);

/* status.c: what noded reads. */
struct status {
    const char *attempt_id;
    const char *state; /* running, exited, not_started */
    pid_t shim_pid, pid;
    uint64_t shim_start_ticks, start_ticks;
    int64_t exec_ns, end_ns;
    int exit_code, exit_signal;
    char reason[REASON_SIZE];
    char message[MESSAGE_SIZE];
    uint64_t log_bytes, lost_bytes, oom_kills;
    struct rusage usage;
};

size_t status_format(struct status *status, char *text, size_t size);
/* Opens the file where *fd is -1. False: it could not be written whole; say it again later. */
bool status_append(int *fd, const char *text, size_t length);
uint64_t start_ticks_of(pid_t pid);
/* Reads a small file into `text` and ends it with NUL; -1: not readable. */
ssize_t read_small_file(const char *path, char *text, size_t size);
bool write_small_file(const char *path, const char *text);

/* serve.c: true in a forked child, which is to be the shim of the attempt at `path` (PATH_MAX bytes); false once
   noded is gone. */
bool serve(int socket_fd, char *path);

/* riseml_shim.c */
int64_t clock_ns(clockid_t clock);

#endif
