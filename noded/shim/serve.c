/* riseml-shim --serve ROOM: forks a shim for each attempt directory that comes over a socket.

   noded starts it once and spares itself an exec and a page table for each attempt: this process is a few pages
   large. What comes back, one message each, is only what a shim could not tell by itself:

     died CODE PATH       it ended, but not as one that has told how its job ended
     killed SIGNAL PATH
     refused ERRNO PATH   no process could be made

   It ends when noded does; its children do not notice. ROOM is overwritten with the attempt's directory in each
   child, so that a list of processes tells them apart. */
#include "shim.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { SERVED_AT_ONCE = 16, MESSAGE_BYTES = PATH_MAX + 64 };

struct child {
    pid_t pid;
    char *path;
};

struct server {
    int socket_fd, signal_fd;
    struct child *children;
    size_t count, size;
};

static void tell(const struct server *server, const char *word, int number, const char *path)
{
    char text[MESSAGE_BYTES];
    int length = snprintf(text, sizeof text, "%s %d %s", word, number, path);
    if (length > 0 && (size_t)length < sizeof text)
        send(server->socket_fd, text, (size_t)length, MSG_NOSIGNAL);
}

static bool make_room(struct server *server)
{
    if (server->count < server->size)
        return true;
    size_t size = server->size > 0 ? server->size * 2 : 64;
    struct child *larger = realloc(server->children, size * sizeof *larger);
    if (larger == NULL)
        return false;
    server->children = larger;
    server->size = size;
    return true;
}

/* True in the child, whose directory `path` then is. */
static bool fork_shim(struct server *server, const char *path)
{
    char *kept = make_room(server) ? strdup(path) : NULL;
    pid_t pid = kept != NULL ? fork() : -1;
    if (pid == 0)
        return true;
    if (pid < 0) {
        tell(server, "refused", errno, path);
        free(kept);
    } else
        server->children[server->count++] = (struct child){pid, kept};
    return false;
}

static void reap(struct server *server)
{
    struct signalfd_siginfo got[16];
    int status;
    pid_t pid;
    if (read(server->signal_fd, got, sizeof got) < 0 && errno != EAGAIN && errno != EINTR)
        return;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        for (size_t i = 0; i < server->count; i++) {
            struct child *child = &server->children[i];
            if (child->pid != pid)
                continue;
            if (WIFSIGNALED(status))
                tell(server, "killed", WTERMSIG(status), child->path);
            else if (WEXITSTATUS(status) != SHIM_TOLD && WEXITSTATUS(status) != SHIM_TOLD_NOT_STARTED)
                tell(server, "died", WEXITSTATUS(status), child->path);
            free(child->path);
            *child = server->children[--server->count];
            break;
        }
}

/* True in a child. False: nobody sends any more. */
static bool serve_some(struct server *server, char *path, bool *over)
{
    for (int i = 0; i < SERVED_AT_ONCE; i++) {
        ssize_t length = recv(server->socket_fd, path, PATH_MAX - 1, MSG_DONTWAIT);
        if (length == 0 || (length < 0 && errno != EAGAIN && errno != EINTR))
            *over = true;
        if (length <= 0)
            return false;
        path[length] = '\0';
        if (fork_shim(server, path))
            return true;
    }
    return false;
}

bool serve(int socket_fd, char *path)
{
    struct server server = {.socket_fd = socket_fd};
    sigset_t all, child;
    setsid(); /* fails where noded's spawn has done so */
    sigfillset(&all);
    sigprocmask(SIG_SETMASK, &all, NULL); /* for the shims too: a stop that comes early waits for them */
    sigemptyset(&child);
    sigaddset(&child, SIGCHLD);
    server.signal_fd = signalfd(-1, &child, SFD_CLOEXEC | SFD_NONBLOCK);
    for (bool over = server.signal_fd < 0; !over;) {
        struct pollfd fds[2] = {{socket_fd, POLLIN, 0}, {server.signal_fd, POLLIN, 0}};
        if (poll(fds, 2, -1) < 0 && errno != EINTR)
            return false;
        if (fds[0].revents != 0 && serve_some(&server, path, &over))
            return true;
        if (fds[1].revents != 0)
            reap(&server);
    }
    return false;
}
