/* riseml-shim ATTEMPT_DIR [NOTIFY_FD]      (or forked for ATTEMPT_DIR by a server: serve.c)

   The parent of one attempt's job. It outlives noded: its own session, no terminal, deaf to SIGHUP and SIGINT. It
   turns the job's output into log segments (log.c), ends the job with all that descends from it (job.c), and writes
   what became of it to `status` (status.c). What noded wants is in `spec` (spec.c).

     SIGTERM   stop: SIGTERM to the job's group, SIGKILL to everything after the grace period. A file `stop`
               (`GRACE_MS REASON`, -1 for the spec's grace) goes first; sending it again can only shorten the grace.
     SIGUSR1   stop with no grace.

   The phases: RUNNING until the job's first process ends; ORPHANS until nothing that descends from it is left;
   DRAINING until its output pipes are at their end (or, if a stranger holds them, for a moment); then the final
   status. Status texts also go to NOTIFY_FD, a non-blocking pipe shared by all shims of a daemon. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { STATUS_SIZE = 4096, FIRST_OTHER_FD = 3, SERVER_FD = 4, DRAIN_BYTES = 4 << 20 };
static const int64_t PARTIAL_NS = 250LL * NS_PER_MS;
static const int64_t DRAIN_NS = 500LL * NS_PER_MS; /* of silence */
static const int64_t KILL_AGAIN_NS = 50LL * NS_PER_MS;
static const int64_t NOTIFY_AGAIN_NS = 20LL * NS_PER_MS;
static const int64_t LAST_WRITES_NS = 2000LL * NS_PER_MS;
static const int64_t NEVER = INT64_MAX;

struct shim {
    struct spec spec;
    struct job job;
    struct cri_log log;
    struct cri_stream streams[2];
    struct status status;
    enum { RUNNING, ORPHANS, DRAINING } phase;
    bool stopping;
    int signal_fd, notify_fd, status_fd;
    int64_t kill_at_ns;  /* when SIGKILL follows; NEVER while nothing is to be stopped */
    int64_t drain_until_ns;
    size_t drained; /* more than the pipes can hold: a stranger writes */
    int64_t contact_check_ns;
    int64_t contact_base_ns; /* CLOCK_BOOTTIME of the last contact known */
    char note[STATUS_SIZE];  /* status text on its way to noded */
    size_t note_length;
};

int64_t clock_ns(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}

static int64_t sooner(int64_t left, int64_t right) { return left < right ? left : right; }

/* ---- telling noded ---- */

/* Below PIPE_BUF a pipe takes all or nothing. */
static void send_note(struct shim *shim)
{
    if (shim->notify_fd >= 0 && shim->note_length > 0 &&
        write(shim->notify_fd, shim->note, shim->note_length) < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    shim->note_length = 0; /* sent, or nobody reads any more: the file tells the next daemon */
}

static bool publish(struct shim *shim, const char *state, bool durable)
{
    shim->status.state = state;
    shim->note_length = status_format(&shim->status, shim->note, sizeof shim->note);
    bool ok = status_append(&shim->status_fd, shim->note, shim->note_length);
    send_note(shim);
    if (ok && durable)
        fsync(shim->status_fd); /* after the note: nobody need wait for the disk */
    return ok;
}

/* ---- stopping ---- */

static void set_reason(struct shim *shim, const char *reason)
{
    if (shim->status.reason[0] == '\0')
        snprintf(shim->status.reason, sizeof shim->status.reason, "%s", reason);
}

static void begin_stop(struct shim *shim, int64_t grace_ms, const char *reason, int64_t now_ns)
{
    set_reason(shim, reason);
    if (shim->phase == RUNNING && !shim->stopping && grace_ms > 0) {
        if (getpgid(shim->job.pid) != shim->job.pid)
            kill(shim->job.pid, SIGTERM); /* it left its group */
        kill(-shim->job.pid, SIGTERM);
        kill(-shim->job.pid, SIGCONT);
    }
    shim->stopping = true;
    shim->kill_at_ns = sooner(shim->kill_at_ns, now_ns + grace_ms * NS_PER_MS);
}

/* noded's wishes for this stop, else the spec's. */
static void stop_as_ordered(struct shim *shim, bool at_once, int64_t now_ns)
{
    char text[REASON_SIZE + 32], reason[REASON_SIZE] = "stopped";
    long long grace_ms = shim->spec.grace_ms;
    if (read_small_file("stop", text, sizeof text) > 0)
        sscanf(text, "%lld %63[^\n]", &grace_ms, reason);
    if (grace_ms < 0)
        grace_ms = shim->spec.grace_ms;
    begin_stop(shim, at_once ? 0 : grace_ms, reason, now_ns);
}

static void check_contact(struct shim *shim, int64_t now_ns)
{
    char text[32];
    int64_t timeout_ns = shim->spec.contact_timeout_ms * NS_PER_MS, boot_ns = clock_ns(CLOCK_BOOTTIME);
    if (read_small_file(shim->spec.contact_file, text, sizeof text) > 0) {
        int64_t contact = strtoll(text, NULL, 10);
        if (contact > shim->contact_base_ns && contact <= boot_ns)
            shim->contact_base_ns = contact;
    }
    int64_t left_ns = shim->contact_base_ns + timeout_ns - boot_ns;
    shim->contact_check_ns = now_ns + left_ns;
    if (left_ns <= 0) {
        shim->contact_check_ns = NEVER;
        begin_stop(shim, shim->spec.grace_ms, "no_contact", now_ns);
    }
}

/* ---- children ---- */

static void job_ended(struct shim *shim, int wait_status, const struct rusage *usage)
{
    shim->status.end_ns = clock_ns(CLOCK_REALTIME);
    shim->status.usage = *usage;
    if (WIFEXITED(wait_status))
        shim->status.exit_code = WEXITSTATUS(wait_status);
    else
        shim->status.exit_signal = WTERMSIG(wait_status);
}

static void reap(struct shim *shim, int64_t now_ns)
{
    struct rusage usage;
    int wait_status;
    pid_t pid;
    while ((pid = wait4(-1, &wait_status, WNOHANG, &usage)) > 0 || (pid < 0 && errno == EINTR))
        if (pid == shim->job.pid) {
            job_ended(shim, wait_status, &usage);
            shim->phase = ORPHANS;
        }
    bool none_left = pid < 0;
    if (shim->phase == ORPHANS && none_left) {
        shim->phase = DRAINING;
        shim->drain_until_ns = now_ns + DRAIN_NS;
        shim->kill_at_ns = NEVER;
    } else if (shim->phase == ORPHANS && shim->job.pid != 0) {
        shim->job.pid = 0; /* told once; its number may be another's from here on */
        descendants_signal(SIGTERM);
        descendants_signal(SIGCONT);
        shim->kill_at_ns = sooner(shim->kill_at_ns, now_ns + shim->spec.orphan_grace_ms * NS_PER_MS);
    }
}

static void take_signals(struct shim *shim, int64_t now_ns)
{
    struct signalfd_siginfo got[16];
    ssize_t n = read(shim->signal_fd, got, sizeof got);
    for (ssize_t i = 0; i < n / (ssize_t)sizeof got[0]; i++)
        if (got[i].ssi_signo == SIGTERM || got[i].ssi_signo == SIGUSR1)
            stop_as_ordered(shim, got[i].ssi_signo == SIGUSR1, now_ns);
    reap(shim, now_ns);
}

/* ---- the loop ---- */

static void run_timers(struct shim *shim, int64_t now_ns)
{
    if (now_ns >= shim->kill_at_ns) {
        descendants_kill(&shim->spec);
        shim->kill_at_ns = clock_ns(CLOCK_MONOTONIC) + KILL_AGAIN_NS;
    }
    if (now_ns >= shim->contact_check_ns && shim->phase == RUNNING)
        check_contact(shim, now_ns);
    for (int i = 0; i < 2; i++)
        if (shim->streams[i].have > 0 && now_ns >= shim->streams[i].read_at_ns + PARTIAL_NS)
            stream_flush_partial(&shim->streams[i], &shim->log, now_ns);
    if (shim->note_length > 0)
        send_note(shim);
}

static int64_t next_timer(const struct shim *shim, int64_t now_ns)
{
    int64_t next = shim->kill_at_ns;
    if (shim->phase == RUNNING)
        next = sooner(next, shim->contact_check_ns);
    if (shim->phase == DRAINING)
        next = sooner(next, shim->drain_until_ns);
    for (int i = 0; i < 2; i++)
        if (shim->streams[i].have > 0)
            next = sooner(next, shim->streams[i].read_at_ns + PARTIAL_NS);
    if (shim->log.blocked)
        next = sooner(next, shim->log.retry_at_ns);
    if (shim->note_length > 0)
        next = sooner(next, now_ns + NOTIFY_AGAIN_NS);
    return next;
}

static bool done(const struct shim *shim, int64_t now_ns)
{
    return shim->phase == DRAINING &&
           ((shim->streams[0].fd < 0 && shim->streams[1].fd < 0) || now_ns >= shim->drain_until_ns ||
            shim->drained > DRAIN_BYTES);
}

static void read_output(struct shim *shim, struct cri_stream *stream, int64_t now_ns)
{
    size_t got = stream_read(stream, &shim->log, now_ns);
    if (shim->phase == DRAINING) {
        shim->drained += got;
        shim->drain_until_ns = now_ns + DRAIN_NS;
    }
}

static void supervise(struct shim *shim)
{
    int64_t now_ns = clock_ns(CLOCK_MONOTONIC);
    while (!done(shim, now_ns)) {
        struct pollfd fds[3] = {{shim->signal_fd, POLLIN, 0},
                                {shim->streams[0].fd, POLLIN, 0},
                                {shim->streams[1].fd, POLLIN, 0}};
        int64_t next = next_timer(shim, now_ns);
        struct timespec wait = {0, 0};
        if (next > now_ns)
            wait = (struct timespec){(next - now_ns) / 1000000000LL, (next - now_ns) % 1000000000LL};
        int ready = ppoll(fds, 3, next == NEVER ? NULL : &wait, NULL);
        now_ns = clock_ns(CLOCK_MONOTONIC);
        for (int i = 0; ready > 0 && i < 2; i++)
            if (fds[i + 1].revents != 0)
                read_output(shim, &shim->streams[i], now_ns);
        if (ready > 0 && fds[0].revents != 0)
            take_signals(shim, now_ns);
        run_timers(shim, now_ns);
        log_flush(&shim->log, now_ns);
    }
}

/* Patience with a full disk: the log for a moment, the exit code for as long as it takes. */
static void finish(struct shim *shim, const char *state)
{
    int64_t until_ns = clock_ns(CLOCK_MONOTONIC) + LAST_WRITES_NS, now_ns;
    for (int i = 0; i < 2; i++)
        stream_flush_partial(&shim->streams[i], &shim->log, until_ns);
    for (;;) {
        now_ns = clock_ns(CLOCK_MONOTONIC);
        log_flush(&shim->log, now_ns);
        if ((shim->log.out_len == 0 && shim->log.lost_unreported == 0) || now_ns >= until_ns)
            break;
        usleep(20000);
    }
    shim->status.log_bytes = shim->log.total;
    shim->status.lost_bytes = shim->log.lost_bytes + (shim->log.out_len - shim->log.out_done);
    shim->status.oom_kills = cgroup_oom_kills(&shim->spec);
    cgroups_remove(&shim->spec); /* before the end is told, for then noded looks no more */
    while (!publish(shim, state, true))
        usleep(500000);
    for (int tries = 0; shim->note_length > 0 && tries < 100; tries++, usleep(10000))
        send_note(shim);
}

/* ---- the beginning ---- */

static void leave_the_daemon(struct shim *shim, int notify_fd)
{
    sigset_t all;
    setsid(); /* fails where noded's spawn has done so */
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL); /* blocked signals kill nobody, and a write to no reader is EPIPE */
    if (notify_fd > FIRST_OTHER_FD)
        notify_fd = dup2(notify_fd, FIRST_OTHER_FD);
    else if (notify_fd < FIRST_OTHER_FD)
        notify_fd = -1;
    syscall(SYS_close_range, notify_fd < 0 ? FIRST_OTHER_FD : FIRST_OTHER_FD + 1, ~0U, 0);
    if (notify_fd >= 0)
        fcntl(notify_fd, F_SETFD, FD_CLOEXEC);
    shim->notify_fd = notify_fd;
}

/* Until the spec is read, complaints go to the daemon's stderr. */
static void silence_stdio(void)
{
    int null_fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (null_fd < 0)
        return;
    for (int fd = 0; fd < FIRST_OTHER_FD; fd++)
        dup2(null_fd, fd);
    close(null_fd);
}

static bool open_streams(struct shim *shim, int write_ends[2])
{
    static const char *const names[2] = {"stdout", "stderr"};
    static char buffers[2][STREAM_BUFFER_BYTES];
    for (int i = 0; i < 2; i++) {
        int ends[2];
        shim->streams[i].name = names[i];
        shim->streams[i].buf = buffers[i];
        if (pipe2(ends, O_CLOEXEC) != 0)
            return false;
        shim->streams[i].fd = ends[0];
        write_ends[i] = ends[1];
    }
    return true;
}

static void not_started(struct shim *shim, const char *reason, const char *stage, int error)
{
    set_reason(shim, reason);
    snprintf(shim->status.message, sizeof shim->status.message, "could not %s: %s", stage, strerror(error));
    shim->status.end_ns = clock_ns(CLOCK_REALTIME);
}

static bool start(struct shim *shim)
{
    int write_ends[2];
    sigset_t watched;
    sigfillset(&watched);
    shim->signal_fd = signalfd(-1, &watched, SFD_CLOEXEC | SFD_NONBLOCK);
    if (!log_open(&shim->log, &shim->spec)) {
        not_started(shim, "log_failed", "open the log", errno);
        return false;
    }
    if (shim->signal_fd < 0 || !open_streams(shim, write_ends)) {
        not_started(shim, "start_failed", "open the pipes", errno);
        return false;
    }
    job_spawn(&shim->job, &shim->spec, write_ends[0], write_ends[1]);
    shim->status.exec_ns = clock_ns(CLOCK_REALTIME); /* vfork: exec has worked by now */
    close(write_ends[0]);
    close(write_ends[1]);
    if (shim->job.failed_stage != NULL) {
        bool exec = strcmp(shim->job.failed_stage, "execute") == 0;
        char stage[MESSAGE_SIZE / 2];
        snprintf(stage, sizeof stage, "%s%s%.80s", shim->job.failed_stage, exec ? " " : "",
                 exec ? shim->spec.argv[0] : "");
        not_started(shim, exec ? "exec_failed" : "start_failed", stage, shim->job.error);
        return false;
    }
    shim->status.pid = shim->job.pid;
    shim->status.start_ticks = start_ticks_of(shim->job.pid);
    return true;
}

static int told(const struct shim *shim, int code) { return shim->note_length == 0 ? code : SHIM_UNHEARD; }

/* The whole life of one shim; returns how it exits. */
static int run(const char *directory, int notify_fd)
{
    static struct shim shim;
    const char *why;
    if (chdir(directory) != 0) {
        fprintf(stderr, "riseml-shim: %s: %s\n", directory, strerror(errno));
        return SHIM_NO_DIRECTORY;
    }
    leave_the_daemon(&shim, notify_fd);
    if (!spec_read(&shim.spec, &why)) {
        fprintf(stderr, "riseml-shim: %s: %s\n", directory, why);
        return SHIM_REFUSED;
    }
    silence_stdio();
    shim.status_fd = -1;
    shim.status.attempt_id = shim.spec.attempt_id;
    shim.status.shim_pid = getpid();
    shim.status.shim_start_ticks = start_ticks_of(getpid());
    shim.kill_at_ns = shim.contact_check_ns = NEVER;
    if (!start(&shim)) {
        finish(&shim, "not_started");
        return told(&shim, SHIM_TOLD_NOT_STARTED);
    }
    if (shim.spec.contact_file != NULL && shim.spec.contact_timeout_ms > 0) {
        shim.contact_base_ns = clock_ns(CLOCK_BOOTTIME);
        shim.contact_check_ns = 0;
    }
    publish(&shim, "running", false);
    if (!job_join_cgroups(&shim.job, &shim.spec, &why)) {
        snprintf(shim.status.message, sizeof shim.status.message, "could not enter its control group: %.150s: %s", why,
                 strerror(errno));
        begin_stop(&shim, 0, "start_failed", clock_ns(CLOCK_MONOTONIC));
    }
    supervise(&shim);
    finish(&shim, "exited");
    return told(&shim, SHIM_TOLD);
}

/* What a list of processes shows: the arguments are one piece of memory. */
static void show_as(char **argv, int argc, const char *directory)
{
    char *first = argv[0], *last = argv[argc - 1];
    size_t size = (size_t)(last - first) + strlen(last) + 1, name = strlen(first) + 1;
    memset(first + name, 0, size - name);
    for (size_t i = 0; directory[i] != '\0' && name + i + 1 < size; i++)
        first[name + i] = directory[i];
}

int main(int argc, char **argv)
{
    static char directory[PATH_MAX];
    if (argc >= 2 && strcmp(argv[1], "--serve") == 0) {
        if (!serve(SERVER_FD, directory))
            return 0;
        show_as(argv, argc, directory);
        return run(directory, FIRST_OTHER_FD);
    }
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: riseml-shim ATTEMPT_DIR [NOTIFY_FD]\n");
        return 2;
    }
    return run(argv[1], argc == 3 ? atoi(argv[2]) : -1);
}
