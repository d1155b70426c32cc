// Turns the n-th step that a program takes on files below a folder into its end, or into an error.
//
// A step makes a file or folder, writes, saves to disk or removes. Renames and other calls that go past the C library are not
// seen; each has a step before and one after it.
//
// Environment: STEP_BELOW, the folder; STEP_AT, n; STEP_DO, "kill" or the number of an error; STEP_ALWAYS, if the error stays;
// STEP_LOG, a file that gets a line for each step.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long n_taken;

static void note(long number, const char *step, const char *path) {
    const char *log = getenv("STEP_LOG");
    if (!log) return;
    char line[PATH_MAX + 64];
    int length = snprintf(line, sizeof line, "%ld %s %s\n", number, step, path);
    int fd = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT, 0600);
    if (fd < 0) return;
    syscall(SYS_write, fd, line, length);
    syscall(SYS_close, fd);
}

static int fails(const char *step, const char *path) {
    const char *below = getenv("STEP_BELOW"), *at = getenv("STEP_AT"), *what = getenv("STEP_DO");
    if (!below || !path || strncmp(path, below, strlen(below)) != 0) return 0;
    long number = atomic_fetch_add(&n_taken, 1) + 1;
    note(number, step, path);
    if (!at || !what) return 0;
    if (number != atol(at) && !(number > atol(at) && getenv("STEP_ALWAYS"))) return 0;
    if (strcmp(what, "kill") == 0) {
        syscall(SYS_kill, getpid(), SIGKILL);
        for (;;) pause();
    }
    errno = atoi(what);
    return 1;
}

static int fails_at(const char *step, int fd) {
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails(step, path);
}

#define STEP(result, name, taken, arguments, failed) \
    result name taken { \
        static result (*next) taken; \
        if (!next) next = (result (*) taken)dlsym(RTLD_NEXT, #name); \
        return failed ? -1 : next arguments; \
    }

STEP(ssize_t, write, (int fd, const void *from, size_t n), (fd, from, n), fails_at("write", fd))
STEP(ssize_t, writev, (int fd, const struct iovec *from, int n), (fd, from, n), fails_at("write", fd))
STEP(ssize_t, pwrite64, (int fd, const void *from, size_t n, off64_t at), (fd, from, n, at), fails_at("write", fd))
STEP(int, ftruncate64, (int fd, off64_t n), (fd, n), fails_at("truncate", fd))
STEP(int, fsync, (int fd), (fd), fails_at("sync", fd))
STEP(int, fdatasync, (int fd), (fd), fails_at("sync", fd))
STEP(int, mkdir, (const char *path, mode_t mode), (path, mode), fails("mkdir", path))
STEP(int, rmdir, (const char *path), (path), fails("remove", path))
STEP(int, unlink, (const char *path), (path), fails("remove", path))

#define OPENING(name) \
    int name(const char *path, int flags, ...) { \
        static int (*next)(const char *, int, ...); \
        if (!next) next = (int (*)(const char *, int, ...))dlsym(RTLD_NEXT, #name); \
        int makes = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE; \
        mode_t mode = 0; \
        if (makes) { \
            va_list more; \
            va_start(more, flags); \
            mode = va_arg(more, mode_t); \
            va_end(more); \
        } \
        return makes && fails("make", path) ? -1 : next(path, flags, mode); \
    }

OPENING(open)
OPENING(open64)
