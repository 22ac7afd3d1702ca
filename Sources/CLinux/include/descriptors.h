#ifndef CLINUX_DESCRIPTORS_H
#define CLINUX_DESCRIPTORS_H
#include <stddef.h>
#include <sys/types.h>

/// Most descriptors in one message; the kernel's own limit is SCM_MAX_FD = 253.
#define CLINUX_DESCRIPTORS_MAX 200

/// Sends one byte with `count` descriptors attached (SCM_RIGHTS, unix(7)). Returns 0, or -1 with errno set.
int clinux_send_descriptors(int socket, const int *descriptors, size_t count);

/// Receives one byte and up to CLINUX_DESCRIPTORS_MAX descriptors, close-on-exec. Returns their number, -1 with errno set,
/// or -2 when the other side closed.
ssize_t clinux_receive_descriptors(int socket, int *descriptors);

/// A connected pair of stream sockets, both close-on-exec. Returns 0, or -1 with errno set.
int clinux_socket_pair(int pair[2]);

/// A pipe whose ends, the reader's first, are both close-on-exec. Returns 0, or -1 with errno set.
int clinux_pipe(int pair[2]);

/// Sends all bytes without SIGPIPE; EINTR is retried. Returns 0, or -1 with errno set.
int clinux_send_all(int socket, const void *bytes, size_t count);

/// Lets everything else of the machine go first: SCHED_BATCH and ten nicer than before (sched(7)), for this thread and those it makes. Returns 0, or -1 with
/// errno set.
int clinux_run_behind(void);

/// Raises the limit of open files to what the system allows, at most `most`. Returns 0, or -1 with errno set.
int clinux_raise_open_files(unsigned long most);

/// No core dumps and no ptrace of this process by others of the same user: keys are in memory. Returns 0, or -1.
int clinux_protect_memory(void);

#endif
