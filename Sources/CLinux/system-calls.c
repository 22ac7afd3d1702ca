#define _GNU_SOURCE
#include "include/confinement.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <ucontext.h>
#include <unistd.h>

#if defined(__x86_64__)
#define ARCHITECTURE AUDIT_ARCH_X86_64
#define ARGUMENT(context, place) ((context)->uc_mcontext.gregs[(int[]){REG_RDI, REG_RSI, REG_RDX, REG_R10}[place]])
#define ANSWER(context) ((context)->uc_mcontext.gregs[REG_RAX])
#elif defined(__aarch64__)
#define ARCHITECTURE AUDIT_ARCH_AARCH64
#define ARGUMENT(context, place) ((context)->uc_mcontext.regs[place])
#define ANSWER(context) ((context)->uc_mcontext.regs[0])
#else
#error "the numbers of the system calls are known for x86_64 and arm64"
#endif

// The filter is one list that is gone through from its top (seccomp(2), bpf of the kernel's networking/filter.rst). Numbers come from the headers
// of the architecture that this is built for, and the kernel's own name for it is compared first, so that no other table is ever meant.
#define LOAD(offset) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, (offset))
#define RETURN(action) BPF_STMT(BPF_RET | BPF_K, (action))
#define LOW(place) (offsetof(struct seccomp_data, args) + 8 * (place))  // both architectures are little-endian
#define HIGH(place) (LOW(place) + 4)
#define ALLOW(name) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 1), RETURN(SECCOMP_RET_ALLOW)
#define REFUSE(name, code) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 1), RETURN(SECCOMP_RET_ERRNO | (code))
/// Each of these ends in one of both answers, whichever way its argument decides. Arguments of the kernel's type int are compared by their low half.
#define ALLOW_IF_EQUAL(name, place, value) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 4), LOAD(LOW(place)), \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, 1), RETURN(SECCOMP_RET_ALLOW), RETURN(SECCOMP_RET_TRAP)
#define ALLOW_IF_ONE_OF(name, place, first, second, third, fourth) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 7), LOAD(LOW(place)), \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (first), 3, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (second), 2, 0), \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (third), 1, 0), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (fourth), 0, 1), \
    RETURN(SECCOMP_RET_ALLOW), RETURN(SECCOMP_RET_TRAP)
#define ALLOW_UNLESS_EQUAL(name, place, value) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 4), LOAD(LOW(place)), \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 1, 0), RETURN(SECCOMP_RET_ALLOW), RETURN(SECCOMP_RET_TRAP)
#define ALLOW_IF_SET(name, place, bits) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 4), LOAD(LOW(place)), \
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 0, 1), RETURN(SECCOMP_RET_ALLOW), RETURN(SECCOMP_RET_TRAP)
#define ALLOW_UNLESS_SET(name, place, bits) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 4), LOAD(LOW(place)), \
    BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, (bits), 1, 0), RETURN(SECCOMP_RET_ALLOW), RETURN(SECCOMP_RET_TRAP)
#define ALLOW_IF_NULL(name, place) \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, __NR_##name, 0, 6), LOAD(LOW(place)), BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 3), LOAD(HIGH(place)), \
    BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 1), RETURN(SECCOMP_RET_ALLOW), RETURN(SECCOMP_RET_TRAP)

/// What may be opened by name: these few files, already open.
static struct {
    char path[256];
    int descriptor;
} lent[4];
static size_t lent_count;

/// What libraries look for and do without: glibc asks so whether a thread's heap may give memory back.
static const char *const absent[] = {"/proc/sys/vm/overcommit_memory", "/sys/kernel/mm/transparent_hugepage/enabled", "/etc/localtime"};

int clinux_lend(const char *path) {
    if (strlen(path) >= sizeof lent[0].path || lent_count == sizeof lent / sizeof *lent) {
        errno = ENAMETOOLONG;
        return -1;
    }
    int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0) return -1;
    strcpy(lent[lent_count].path, path);
    lent[lent_count++].descriptor = descriptor;
    return 0;
}

static const struct {
    int number;
    const char *name;
} names[] = {
    {__NR_openat, "openat"}, {__NR_socket, "socket"}, {__NR_connect, "connect"}, {__NR_execve, "execve"}, {__NR_execveat, "execveat"},
    {__NR_clone, "clone (a process)"}, {__NR_kill, "kill"}, {__NR_tgkill, "tgkill"}, {__NR_ptrace, "ptrace"}, {__NR_mmap, "mmap (code)"},
    {__NR_mprotect, "mprotect (code)"}, {__NR_prctl, "prctl"}, {__NR_prlimit64, "prlimit64"}, {__NR_bind, "bind"}, {__NR_unlinkat, "unlinkat"},
    {__NR_memfd_create, "memfd_create"}, {__NR_io_uring_setup, "io_uring_setup"}, {__NR_mount, "mount"}, {__NR_unshare, "unshare"},
    {__NR_ioctl, "ioctl"}, {__NR_fcntl, "fcntl"}, {__NR_readlinkat, "readlinkat"}, {__NR_faccessat, "faccessat"}, {__NR_newfstatat, "newfstatat"},
#ifdef __NR_open
    {__NR_open, "open"}, {__NR_fork, "fork"}, {__NR_vfork, "vfork"}, {__NR_readlink, "readlink"}, {__NR_access, "access"}, {__NR_stat, "stat"},
#endif
};

/// Says which call it was, on standard error, and dies of it: with SIGSYS blocked, the next forbidden call is the end.
static void die(int number) {
    char line[96] = "a stage may not ask the system for ";
    size_t length = strlen(line);
    const char *name = NULL;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (names[i].number == number) name = names[i].name;
    char digits[12];
    size_t count = 0;
    for (unsigned rest = (unsigned)number; count == 0 || (rest > 0 && count < sizeof digits); rest /= 10) digits[count++] = (char)('0' + rest % 10);
    if (name) {
        memcpy(line + length, name, strlen(name));
        length += strlen(name);
    } else {
        memcpy(line + length, "call ", 5);
        length += 5;
        while (count > 0) line[length++] = digits[--count];
    }
    line[length++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, length);
    (void)written;
    syscall(SYS_ptrace, 0, 0, 0, 0);
    for (;;) syscall(SYS_exit_group, 1);
}

/// No call's answer: those are at least -4095.
static const long forbidden = -4096;

/// The answer to a read-only opening by name.
static long answer_open(const char *path, long flags) {
    if (flags & (O_WRONLY | O_RDWR | O_CREAT | O_TRUNC | O_DIRECTORY | O_PATH)) return forbidden;
    for (size_t i = 0; i < lent_count; i++) {
        if (strcmp(path, lent[i].path) != 0) continue;
        int copy = fcntl(lent[i].descriptor, F_DUPFD_CLOEXEC, 0);
        if (copy >= 0) lseek(copy, 0, SEEK_SET);
        return copy >= 0 ? copy : -errno;
    }
    for (size_t i = 0; i < sizeof absent / sizeof *absent; i++)
        if (strcmp(path, absent[i]) == 0) return -ENOENT;
    return forbidden;
}

/// Runs where the forbidden call was made, on that thread's stack: only async-signal-safe calls, and nothing is locked.
static void refused(int signal, siginfo_t *info, void *opaque) {
    (void)signal;
    ucontext_t *context = opaque;
    int saved = errno, number = info->si_syscall;
    long answer = forbidden;
    if (number == __NR_openat) answer = answer_open((const char *)ARGUMENT(context, 1), (long)ARGUMENT(context, 2));
#ifdef __NR_open
    if (number == __NR_open) answer = answer_open((const char *)ARGUMENT(context, 0), (long)ARGUMENT(context, 1));
#endif
    // The C library's fstat is a stat of no name at a descriptor; a name in it would be another thing.
    if (number == __NR_newfstatat && (ARGUMENT(context, 3) & AT_EMPTY_PATH) && ARGUMENT(context, 1) && *(const char *)ARGUMENT(context, 1) == 0)
        answer = syscall(__NR_fstat, (int)ARGUMENT(context, 0), ARGUMENT(context, 2)) == 0 ? 0 : -errno;
    if (answer == forbidden) die(number);
    ANSWER(context) = answer;
    errno = saved;
}

int clinux_filter_system_calls(void) {
    struct sigaction action = {.sa_sigaction = refused, .sa_flags = SA_SIGINFO};
    if (sigaction(SIGSYS, &action, NULL) != 0) return -1;
    uint32_t self = (uint32_t)getpid();
    struct sock_filter list[] = {
        LOAD(offsetof(struct seccomp_data, arch)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, ARCHITECTURE, 1, 0), RETURN(SECCOMP_RET_KILL_PROCESS),
        LOAD(offsetof(struct seccomp_data, nr)),
#ifdef __x86_64__
        // The x32 table shares the architecture's name.
        BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1), RETURN(SECCOMP_RET_KILL_PROCESS),
#endif
        // Reading and writing what is open.
        ALLOW(futex), ALLOW(read), ALLOW(write), ALLOW(pread64), ALLOW(pwrite64), ALLOW(readv), ALLOW(writev), ALLOW(pwritev), ALLOW(preadv),
        ALLOW(lseek), ALLOW(fstat), ALLOW(fsync), ALLOW(fdatasync), ALLOW(ftruncate), ALLOW(close), ALLOW(dup),
        ALLOW_IF_ONE_OF(fcntl, 1, F_DUPFD_CLOEXEC, F_GETFD, F_SETFD, F_GETFL), REFUSE(ioctl, ENOTTY),
        ALLOW(recvfrom), ALLOW(sendto), ALLOW(recvmsg), ALLOW(sendmsg), ALLOW(ppoll),
#ifdef __NR_poll
        ALLOW(poll),
#endif
        // Memory, never to be executed.
        ALLOW_UNLESS_SET(mmap, 2, PROT_EXEC), ALLOW_UNLESS_SET(mprotect, 2, PROT_EXEC), ALLOW(munmap), ALLOW(mremap), ALLOW(madvise), ALLOW(brk),
        ALLOW(mlock), ALLOW(munlock), ALLOW(getrandom),
        // Threads of this process. clone3 hides its flags from a filter: the C library falls back to clone.
        ALLOW_IF_SET(clone, 0, CLONE_THREAD), REFUSE(clone3, ENOSYS), ALLOW(set_robust_list), ALLOW(rseq), ALLOW(sched_yield), ALLOW(sched_getaffinity),
        ALLOW(sched_getparam), ALLOW(sched_getscheduler), ALLOW(sched_get_priority_max), ALLOW(sched_get_priority_min), ALLOW(getcpu), ALLOW(exit), ALLOW(exit_group),
        ALLOW_IF_EQUAL(prctl, 0, PR_SET_NAME), ALLOW_IF_EQUAL(tgkill, 0, self), ALLOW_UNLESS_EQUAL(rt_sigaction, 0, SIGSYS),
        ALLOW(rt_sigprocmask), ALLOW(rt_sigreturn), ALLOW(sigaltstack), ALLOW(restart_syscall),
        // Time and itself.
        ALLOW(clock_gettime), ALLOW(clock_getres), ALLOW(clock_nanosleep), ALLOW(nanosleep), ALLOW(gettimeofday), ALLOW(getpid), ALLOW(getppid), ALLOW(gettid), ALLOW(getuid),
        ALLOW(geteuid), ALLOW(getgid), ALLOW(getegid), ALLOW(getrusage), ALLOW(sysinfo), ALLOW(uname), ALLOW_IF_NULL(prlimit64, 2),
#ifdef __NR_time
        ALLOW(time), ALLOW(getrlimit),
#endif
        RETURN(SECCOMP_RET_TRAP),
    };
    struct sock_fprog program = {.len = sizeof list / sizeof *list, .filter = list};
    return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) == 0 ? 0 : -1;
}
