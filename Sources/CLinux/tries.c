#define _GNU_SOURCE
#include "include/confinement.h"
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

static int errno_unless(int succeeded) { return succeeded ? 0 : errno; }

int clinux_try(const char *what) {
    if (strcmp(what, "open") == 0) return errno_unless(open("/etc/passwd", O_RDONLY | O_CLOEXEC) >= 0);
    if (strcmp(what, "socket") == 0) return errno_unless(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) >= 0);
    if (strcmp(what, "fork") == 0) {
        // The call itself, so that nothing that the C library does before it is what is refused.
        long child = syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
        if (child == 0) _exit(0);
        if (child > 0) waitpid((pid_t)child, NULL, 0);
        return errno_unless(child > 0);
    }
    if (strcmp(what, "exec") == 0) {
        char *arguments[] = {"/bin/true", NULL}, *environment[] = {NULL};
        execve(arguments[0], arguments, environment);
        return errno;
    }
    if (strcmp(what, "signal") == 0) return errno_unless(kill(getppid(), 0) == 0);
    if (strcmp(what, "trace") == 0) return errno_unless(ptrace(PTRACE_SEIZE, getppid(), NULL, NULL) == 0);
    if (strcmp(what, "code") == 0) return errno_unless(mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) != MAP_FAILED);
    return -1;
}
