/* Put before the C library by /etc/ld.so.preload, in a mount namespace of the test's own: a disk that
 * refuses or is slow, and a clock that was set. What is wanted lies in a file that the test writes. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

struct wish {
  int64_t clock_ns;
  int32_t error;
  int32_t delay_ms;
};
static volatile struct wish *wish;

static int (*real_clock)(clockid_t, struct timespec *);
static int (*real_open)(const char *, int, ...);
static ssize_t (*real_write)(int, const void *, size_t);
static ssize_t (*real_pwrite)(int, const void *, size_t, off64_t);
static int (*real_fsync)(int);
static int (*real_fdatasync)(int);
static int (*real_mkdir)(const char *, mode_t);

__attribute__((constructor)) static void begin(void) {
  real_clock = dlsym(RTLD_NEXT, "clock_gettime");
  real_open = dlsym(RTLD_NEXT, "open64");
  real_write = dlsym(RTLD_NEXT, "write");
  real_pwrite = dlsym(RTLD_NEXT, "pwrite64");
  real_fsync = dlsym(RTLD_NEXT, "fsync");
  real_fdatasync = dlsym(RTLD_NEXT, "fdatasync");
  real_mkdir = dlsym(RTLD_NEXT, "mkdir");
  int fd = real_open("/etc/camring-wish", O_RDONLY | O_CLOEXEC);
  if (fd < 0) return;
  void *page = mmap(NULL, sizeof *wish, PROT_READ, MAP_SHARED, fd, 0);
  if (page != MAP_FAILED) wish = page;
  close(fd);
}

/* What the disk says to a change of this path. */
static int refused(const char *path) {
  if (!wish || (!wish->error && !wish->delay_ms) || !strstr(path, "/data/")) return 0;
  if (wish->delay_ms) usleep(1000 * wish->delay_ms);
  errno = wish->error;
  return wish->error != 0;
}

static int refused_fd(int fd) {
  char link[64], path[4096];
  if (!wish || (!wish->error && !wish->delay_ms)) return 0;
  snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
  ssize_t n = readlink(link, path, sizeof path - 1);
  if (n < 0) return 0;
  path[n] = 0;
  return refused(path);
}

int clock_gettime(clockid_t id, struct timespec *now) {
  int result = real_clock(id, now);
  if (id == CLOCK_REALTIME && wish && result == 0) {
    int64_t ns = now->tv_nsec + wish->clock_ns % 1000000000;
    now->tv_sec += wish->clock_ns / 1000000000 + (ns >= 1000000000) - (ns < 0);
    now->tv_nsec = (ns + 1000000000) % 1000000000;
  }
  return result;
}

int open64(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  if (flags & (O_WRONLY | O_RDWR | O_CREAT) && refused(path)) return -1;
  return real_open(path, flags, mode);
}
int open(const char *path, int flags, ...) {
  va_list rest;
  va_start(rest, flags);
  mode_t mode = (flags & O_CREAT) ? va_arg(rest, mode_t) : 0;
  va_end(rest);
  return open64(path, flags, mode);
}
ssize_t write(int fd, const void *bytes, size_t n) {
  return refused_fd(fd) ? -1 : real_write(fd, bytes, n);
}
ssize_t pwrite64(int fd, const void *bytes, size_t n, off64_t at) {
  return refused_fd(fd) ? -1 : real_pwrite(fd, bytes, n, at);
}
int fsync(int fd) { return refused_fd(fd) ? -1 : real_fsync(fd); }
int fdatasync(int fd) { return refused_fd(fd) ? -1 : real_fdatasync(fd); }
int mkdir(const char *path, mode_t mode) { return refused(path) ? -1 : real_mkdir(path, mode); }
