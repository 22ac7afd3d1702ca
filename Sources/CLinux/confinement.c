#define _GNU_SOURCE
#include "include/confinement.h"
#include "include/descriptors.h"
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/// The hard limit too: what is given up is not had again. A limit that is lower already stays.
static int limit(int resource, rlim_t value) {
    struct rlimit both;
    if (getrlimit(resource, &both) != 0) return -1;
    if (both.rlim_max != RLIM_INFINITY && both.rlim_max < value) value = both.rlim_max;
    both = (struct rlimit){.rlim_cur = value, .rlim_max = value};
    return setrlimit(resource, &both);
}

/// Before the process is made untraceable, for then its files in /proc are root's.
static void offer_to_the_killer(void) {
    int file = open("/proc/self/oom_score_adj", O_WRONLY | O_CLOEXEC);
    if (file < 0) return;
    // Where that is refused, the largest goes first, which is the one that took the memory.
    if (write(file, "500", 3) != 3) errno = 0;
    close(file);
}

// Landlock (landlock(7)), by numbers that are the same on all architectures: the C library of Debian 12 has no calls for it.
enum { create_ruleset = 444, restrict_self = 446, version_flag = 1 };

struct ruleset {
    uint64_t files, network, scoped;
};

/// Handles every right that the kernel knows and grants none.
static int enter_landlock(int *version) {
    long found = syscall(create_ruleset, NULL, 0, version_flag);
    *version = found > 0 ? (int)found : 0;
    if (found <= 0) return errno;
    struct ruleset rules = {.files = (1ull << 13) - 1};
    if (found >= 2) rules.files |= 1ull << 13;  // to other folders
    if (found >= 3) rules.files |= 1ull << 14;  // truncate
    if (found >= 5) rules.files |= 1ull << 15;  // ioctl on devices
    if (found >= 4) rules.network = 3;          // bind and connect of TCP
    if (found >= 6) rules.scoped = 3;           // abstract sockets, signals
    size_t size = found >= 6 ? sizeof rules : found >= 4 ? offsetof(struct ruleset, scoped) : offsetof(struct ruleset, network);
    long descriptor = syscall(create_ruleset, &rules, size, 0);
    if (descriptor < 0) return errno;
    int refused = syscall(restrict_self, descriptor, 0) == 0 ? 0 : errno;
    close((int)descriptor);
    return refused;
}

int clinux_confine_stage(const clinux_stage_limits *limits, int without, clinux_confinement *granted) {
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0) return -1;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    offer_to_the_killer();
    if (clinux_protect_memory() != 0) return -1;
    // Media buffers come and go by the chunk. Memory that is given back each time is cleared by the kernel each time: a tenth of a remux.
    if (mallopt(M_MMAP_THRESHOLD, 32 << 20) != 1 || mallopt(M_TRIM_THRESHOLD, 64 << 20) != 1) return -1;
    // A write beyond the limit is an error with a name, not a death.
    if (signal(SIGXFSZ, SIG_IGN) == SIG_ERR || signal(SIGPIPE, SIG_IGN) == SIG_ERR) return -1;
    if (limit(RLIMIT_NOFILE, limits->open_files) != 0 || limit(RLIMIT_AS, limits->memory_bytes) != 0) return -1;
    if (limit(RLIMIT_FSIZE, limits->file_bytes) != 0) return -1;
    // At the soft limit it is SIGXCPU, which says why; at the hard one SIGKILL.
    struct rlimit cpu = {.rlim_cur = limits->cpu_seconds, .rlim_max = limits->cpu_seconds + 5};
    if (setrlimit(RLIMIT_CPU, &cpu) != 0) return -1;
    errno = 0;
    if (nice(limits->nice) == -1 && errno != 0) return -1;
    *granted = (clinux_confinement){.filter = ENOSYS, .landlock = ENOSYS};
    // In this order: Landlock would refuse to open the file, and the filter Landlock's own calls.
    if (limits->readable) clinux_lend(limits->readable);
    clinux_lend("/dev/urandom");  // libavutil seeds itself from it
    if (!(without & CLINUX_WITHOUT_LANDLOCK)) granted->landlock = enter_landlock(&granted->landlock_version);
    if (!(without & CLINUX_WITHOUT_FILTER)) granted->filter = clinux_filter_system_calls() == 0 ? 0 : errno;
    return 0;
}
