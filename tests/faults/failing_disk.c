/* A disk that fails: loaded before the C library (LD_PRELOAD), it lets calls on paths below one folder fail.

   FAILING_UNDER   the folder
   FAILING_CALL    which calls: a letter each of "w" (write), "o" (open for writing), "r" (open for reading), "m" (make a
                   folder), "n" (rename), "l" (list a folder)
   FAILING_AT      the first one of them that fails, counted from 0 over all threads of a process; all later ones fail, too
   FAILING_ERRNO   with which error
   FAILING_LOG     a file outside of the folder that gets a line for each such call, so that somebody may count them */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

static atomic_int calls;

static int is_below(const char *path) {
    const char *folder = getenv("FAILING_UNDER");
    char whole[8192];
    if (!folder || !path) return 0;
    if (path[0] != '/') {
        if (!getcwd(whole, 4000)) return 0;
        strcat(whole, "/");
        strncat(whole, path, 4000);
        path = whole;
    }
    size_t length = strlen(folder);
    return !strncmp(path, folder, length) && (path[length] == '/' || !path[length]);
}

/* Return 1 and set errno where a call is to fail. */
static int fails(char kind, const char *path) {
    const char *kinds = getenv("FAILING_CALL"), *at = getenv("FAILING_AT"), *log = getenv("FAILING_LOG");
    if (!kinds || !strchr(kinds, kind) || !is_below(path)) return 0;
    int number = atomic_fetch_add(&calls, 1);
    if (log) {
        int file = REAL(open)(log, O_WRONLY | O_APPEND | O_CREAT, 0644);
        if (file >= 0) {
            char line[8300];
            int length = snprintf(line, sizeof line, "%d %c %s\n", getpid(), kind, path);
            REAL(write)(file, line, length);
            close(file);
        }
    }
    if (!at || number < atoi(at)) return 0;
    errno = atoi(getenv("FAILING_ERRNO"));
    return 1;
}

static int file_fails(int file) {
    char link[64], path[4096];
    struct stat status;
    if (!getenv("FAILING_UNDER") || fstat(file, &status) || !S_ISREG(status.st_mode)) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", file);
    ssize_t length = readlink(link, path, sizeof path - 1);
    if (length < 0) return 0;
    path[length] = 0;
    return fails('w', path);
}

static int open_fails(const char *path, int flags) {
    return fails(flags & (O_WRONLY | O_RDWR | O_CREAT) ? 'o' : flags & O_DIRECTORY ? 'l' : 'r', path);
}

#define WRITER(type, name, parameters, file, arguments) \
    type name parameters { return file_fails(file) ? -1 : REAL(name) arguments; }
WRITER(ssize_t, write, (int f, const void *b, size_t n), f, (f, b, n))
WRITER(ssize_t, pwrite, (int f, const void *b, size_t n, off_t at), f, (f, b, n, at))
WRITER(ssize_t, pwrite64, (int f, const void *b, size_t n, off64_t at), f, (f, b, n, at))
WRITER(ssize_t, writev, (int f, const struct iovec *v, int n), f, (f, v, n))

size_t fwrite(const void *data, size_t size, size_t count, FILE *file) {
    return file_fails(fileno(file)) ? 0 : REAL(fwrite)(data, size, count, file);
}

#define OPENER(name)                                                        \
    int name(const char *path, int flags, ...) {                            \
        va_list rest;                                                       \
        va_start(rest, flags);                                              \
        mode_t mode = va_arg(rest, mode_t);                                 \
        va_end(rest);                                                       \
        return open_fails(path, flags) ? -1 : REAL(name)(path, flags, mode); \
    }
OPENER(open)
OPENER(open64)

#define OPENER_AT(name)                                                                             \
    int name(int folder, const char *path, int flags, ...) {                                        \
        va_list rest;                                                                               \
        va_start(rest, flags);                                                                      \
        mode_t mode = va_arg(rest, mode_t);                                                         \
        va_end(rest);                                                                               \
        return (folder == AT_FDCWD || path[0] == '/') && open_fails(path, flags) ? -1               \
                                                                : REAL(name)(folder, path, flags, mode); \
    }
OPENER_AT(openat)
OPENER_AT(openat64)

static int mode_flags(const char *mode) { return mode[0] == 'r' && !strchr(mode, '+') ? O_RDONLY : O_RDWR; }

FILE *fopen(const char *path, const char *mode) {
    return open_fails(path, mode_flags(mode)) ? NULL : REAL(fopen)(path, mode);
}

FILE *fopen64(const char *path, const char *mode) {
    return open_fails(path, mode_flags(mode)) ? NULL : REAL(fopen64)(path, mode);
}

int mkdir(const char *path, mode_t mode) { return fails('m', path) ? -1 : REAL(mkdir)(path, mode); }

int rename(const char *from, const char *to) { return fails('n', to) ? -1 : REAL(rename)(from, to); }

DIR *opendir(const char *path) { return fails('l', path) ? NULL : REAL(opendir)(path); }
