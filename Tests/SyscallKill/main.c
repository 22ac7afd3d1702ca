// syscall-kill [--children] [--errno=EIO|ENOSPC] [--until=FILE] FOLDER N ARM REPORT PROGRAM [ARGUMENT...]
//
// Runs a program and kills it (SIGKILL) right before its N-th state-changing system call on a file below FOLDER: real calls of the real
// program, counted over all its threads, none of its children's. Counting begins when the file ARM is there ("-": at once); N = 0 only counts.
// REPORT gets a line for each: number, call, path. Ends with the program's status, or 128 and the signal.
//
// --children: the calls of its children are counted and not its own, and it is the child that is killed, once.
// --errno: nobody is killed; the N-th call is not made and fails with that error. With --until every call from the N-th on fails, until FILE is
// there. ENOSPC meets only those that may take room: not what removes, renames, syncs or opens a file that is there.
//
// The kernel asks before each call (seccomp_unotify(2), Linux 5.5), or gives its caller the answer that it gets here. Reading another process's
// paths needs CAP_SYS_PTRACE, because the program makes itself undumpable: run as root.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

// What the first arguments of a call are.
enum form { descriptor, path, at_path, open_at };
static const struct { int number; const char *name; enum form form; } calls[] = {
    {SYS_write, "write", descriptor}, {SYS_pwrite64, "pwrite64", descriptor}, {SYS_writev, "writev", descriptor}, {SYS_pwritev, "pwritev", descriptor},
    {SYS_fsync, "fsync", descriptor}, {SYS_fdatasync, "fdatasync", descriptor}, {SYS_ftruncate, "ftruncate", descriptor}, {SYS_fallocate, "fallocate", descriptor},
    {SYS_renameat, "renameat", at_path}, {SYS_renameat2, "renameat2", at_path}, {SYS_unlinkat, "unlinkat", at_path}, {SYS_mkdirat, "mkdirat", at_path}, {SYS_linkat, "linkat", at_path},
    {SYS_openat, "openat", open_at},
#ifdef SYS_unlink
    {SYS_rename, "rename", path}, {SYS_unlink, "unlink", path}, {SYS_mkdir, "mkdir", path}, {SYS_rmdir, "rmdir", path}, {SYS_link, "link", path}, {SYS_truncate, "truncate", path},
#endif
};
enum { call_count = sizeof calls / sizeof calls[0] };

static pid_t child;
static int is_about_children, error_code, is_disk_full;
static const char *until;
static void forward(int signal) { if (child > 0) kill(child, signal); }
static void fail(const char *what) { perror(what); exit(125); }

static int install(void) {
    struct sock_filter code[3 * call_count + 2];
    size_t n = 0;
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < call_count; i++) {
        if (calls[i].form == open_at) continue;
        code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i].number, 0, 1);
        code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    }
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_openat, 0, 3);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[2]));
    code[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, O_CREAT | O_TRUNC, 0, 1);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_USER_NOTIF);
    code[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    struct sock_fprog program = {.len = (unsigned short)n, .filter = code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return -1;
    return (int)syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &program);
}

static void pass(int socket, int fd) {
    union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = {0};
    char byte = 'L';
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    if (sendmsg(socket, &message, 0) != 1) _exit(125);
}

static int take(int socket) {
    union { char bytes[CMSG_SPACE(sizeof(int))]; struct cmsghdr align; } control = {0};
    char byte;
    struct iovec vector = {&byte, 1};
    struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1, .msg_control = control.bytes, .msg_controllen = sizeof control.bytes};
    int fd = -1;
    if (recvmsg(socket, &message, 0) != 1) return -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (header) memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

// The file that a call is about; empty where it cannot be said.
static void find(const struct seccomp_notif *asked, enum form form, char out[8192]) {
    char link[64], base[4096] = "", name[4096] = "";
    out[0] = 0;
    if (form != path && !(form != descriptor && (int)asked->data.args[0] == AT_FDCWD)) {
        snprintf(link, sizeof link, "/proc/%d/fd/%d", asked->pid, (int)asked->data.args[0]);
        ssize_t count = readlink(link, base, sizeof base - 1);
        base[count < 0 ? 0 : count] = 0;
    }
    if (form == descriptor) { snprintf(out, 8192, "%s", base); return; }
    snprintf(link, sizeof link, "/proc/%d/mem", asked->pid);
    int memory = open(link, O_RDONLY | O_CLOEXEC);
    if (memory < 0) return;
    off_t at = (off_t)asked->data.args[form == path ? 0 : 1];
    for (size_t i = 0; i < sizeof name - 1 && pread(memory, name + i, 1, at + (off_t)i) == 1 && name[i]; i++) name[i + 1] = 0;
    close(memory);
    if (name[0] == '/' || !base[0]) snprintf(out, 8192, "%s", name); else snprintf(out, 8192, "%s/%s", base, name);
}

// Whether a full disk fails this call.
static int takes_room(int number, const char *file) {
    switch (number) {
    case SYS_write: case SYS_pwrite64: case SYS_writev: case SYS_pwritev: case SYS_fallocate: case SYS_mkdirat: case SYS_linkat:
#ifdef SYS_mkdir
    case SYS_mkdir: case SYS_link:
#endif
        return 1;
    case SYS_openat: return access(file, F_OK) != 0;
    default: return 0;
    }
}

// The process that a thread belongs to; 0 where it is gone.
static pid_t process_of(pid_t task) {
    char line[128];
    pid_t found = 0;
    snprintf(line, sizeof line, "/proc/%d/status", task);
    FILE *status = fopen(line, "re");
    while (status && fgets(line, sizeof line, status)) if (sscanf(line, "Tgid: %d", &found) == 1) break;
    if (status) fclose(status);
    return found;
}

static int is_own(pid_t task) {
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/task/%d", child, task);
    return access(link, F_OK) == 0;
}

int main(int count, char **words) {
    for (; count > 1 && strncmp(words[1], "--", 2) == 0; count--, words++) {
        if (strcmp(words[1], "--children") == 0) is_about_children = 1;
        else if (strcmp(words[1], "--errno=EIO") == 0) error_code = EIO;
        else if (strcmp(words[1], "--errno=ENOSPC") == 0) error_code = ENOSPC, is_disk_full = 1;
        else if (strncmp(words[1], "--until=", 8) == 0) until = words[1] + 8;
        else count = 0;
    }
    if (count < 6) { fprintf(stderr, "syscall-kill [--children] [--errno=EIO|ENOSPC] [--until=FILE] FOLDER N ARM REPORT PROGRAM [ARGUMENT...]\n"); return 125; }
    const char *folder = words[1], *arm = words[3];
    const long last = atol(words[2]);
    const size_t length = strlen(folder);
    // Whoever starts this may block signals; neither this program nor the one that it runs should.
    sigset_t none;
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    FILE *report = fopen(words[4], "w");
    int pair[2];
    if (!report || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) fail("syscall-kill");
    if ((child = fork()) < 0) fail("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        int listener = install();
        if (listener < 0) { perror("seccomp"); _exit(125); }
        pass(pair[1], listener);
        close(listener);
        execv(words[5], words + 5);
        _exit(125);
    }
    close(pair[1]);
    signal(SIGTERM, forward);
    signal(SIGINT, forward);
    int listener = take(pair[0]);
    int ended = (int)syscall(SYS_pidfd_open, child, 0);
    if (listener < 0 || ended < 0) fail("syscall-kill");
    long number = 0;
    int is_armed = strcmp(arm, "-") == 0, is_over = 0;
    while (!is_over) {
        struct pollfd both[2] = {{listener, POLLIN, 0}, {ended, POLLIN, 0}};
        if (poll(both, 2, -1) < 0 && errno != EINTR) fail("poll");
        if (both[1].revents) break;
        if (!(both[0].revents & POLLIN)) continue;
        struct seccomp_notif asked;
        memset(&asked, 0, sizeof asked);
        if (ioctl(listener, SECCOMP_IOCTL_NOTIF_RECV, &asked) != 0) continue;  // the asking task is gone
        is_armed = is_armed || access(arm, F_OK) == 0;
        int answer_error = 0;
        for (size_t i = 0; is_armed && i < call_count; i++) {
            if (calls[i].number != asked.data.nr) continue;
            char file[8192];
            find(&asked, calls[i].form, file);
            if (strncmp(file, folder, length) != 0 || is_own((pid_t)asked.pid) == is_about_children) break;
            if (is_disk_full && !takes_room(asked.data.nr, file)) break;
            number++;
            fprintf(report, "%ld %s %s\n", number, calls[i].name, file + length);
            fflush(report);
            if (error_code) {
                if (last && (number == last || (until && number > last && access(until, F_OK) != 0))) answer_error = -error_code;
            } else if (number == last) {
                pid_t guilty = is_about_children ? process_of((pid_t)asked.pid) : child;
                if (guilty > 0) kill(guilty, SIGKILL);
                is_over = !is_about_children;
            }
            break;
        }
        if (is_over) break;
        struct seccomp_notif_resp answer = {.id = asked.id, .error = answer_error, .flags = answer_error ? 0 : SECCOMP_USER_NOTIF_FLAG_CONTINUE};
        ioctl(listener, SECCOMP_IOCTL_NOTIF_SEND, &answer);  // fails where the task is gone: then nobody waits
    }
    close(listener);
    int status = 0;
    while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
    return WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
}
