// Stands between a program and its C library (LD_PRELOAD): a clock that is set back, a file system that cannot link, and
// one that is as slow as a network. The environment says which:
//   TORTURE_BACK=SECONDS    the clock is that much behind; with TORTURE_WHEN=FILE only once FILE is there
//   TORTURE_NO_LINK=1       link() fails as it does on FAT
//   TORTURE_LATENCY=MICROS  link, rename, unlink, mkdir and fsync take that much longer
#include <cerrno>
#include <cstdlib>
#include <dlfcn.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <ctime>
#include <unistd.h>

static long behind() {
    const char *seconds = getenv("TORTURE_BACK"), *when = getenv("TORTURE_WHEN");
    if (!seconds || (when && syscall(SYS_faccessat, -100, when, 0))) return 0;
    return atol(seconds);
}

static void wait() {
    if (const char *micros = getenv("TORTURE_LATENCY")) usleep(atoi(micros));
}

template <class F> static F real(F, const char *name) { return reinterpret_cast<F>(dlsym(RTLD_NEXT, name)); }

extern "C" {
int clock_gettime(clockid_t clock, timespec *now) noexcept {
    long failed = syscall(SYS_clock_gettime, clock, now);
    if (!failed && clock == CLOCK_REALTIME) now->tv_sec -= behind();
    return failed;
}
time_t time(time_t *told) noexcept {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (told) *told = now.tv_sec;
    return now.tv_sec;
}
int gettimeofday(timeval *told, void *) noexcept {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    told->tv_sec = now.tv_sec;
    told->tv_usec = now.tv_nsec / 1000;
    return 0;
}
int link(const char *from, const char *to) noexcept {
    wait();
    if (getenv("TORTURE_NO_LINK")) return errno = EPERM, -1;
    return real(link, "link")(from, to);
}
int linkat(int a, const char *from, int b, const char *to, int flags) noexcept {
    wait();
    if (getenv("TORTURE_NO_LINK")) return errno = EPERM, -1;
    return real(linkat, "linkat")(a, from, b, to, flags);
}
int rename(const char *from, const char *to) noexcept { return wait(), real(rename, "rename")(from, to); }
int unlink(const char *path) noexcept { return wait(), real(unlink, "unlink")(path); }
int mkdir(const char *path, mode_t mode) noexcept { return wait(), real(mkdir, "mkdir")(path, mode); }
int fsync(int file) { return wait(), real(fsync, "fsync")(file); }
}
