#ifndef CLINUX_CONFINEMENT_H
#define CLINUX_CONFINEMENT_H
#include <stdint.h>

/// What a process that handles untrusted media may use.
typedef struct {
    /// RLIMIT_AS, bytes.
    uint64_t memory_bytes;
    /// RLIMIT_CPU, seconds of all threads together.
    uint64_t cpu_seconds;
    /// RLIMIT_FSIZE, bytes of any one file; a write beyond it fails with EFBIG.
    uint64_t file_bytes;
    /// RLIMIT_NOFILE.
    uint64_t open_files;
    /// Added to the nice value.
    int nice;
    /// The one file that may be read later, or NULL: opened here, lent out when a library opens it by this name.
    const char *readable;
} clinux_stage_limits;

/// What of a confinement is left out, for those who look whether the rest holds by itself.
#define CLINUX_WITHOUT_FILTER 1
#define CLINUX_WITHOUT_LANDLOCK 2

/// What the kernel granted: 0, or the errno with which it refused.
typedef struct {
    int filter;
    int landlock;
    /// Version of Landlock's interface, 0 where there is none.
    int landlock_version;
} clinux_confinement;

/// Confines this process for good, before it reads a byte of a stranger's.
///
/// It dies with its parent, gains no privileges, leaves no core dump, cannot be traced, is limited as told, is the first to go when memory is
/// short, and stands behind others for the processor. Of files, sockets and other processes it reaches what it has open and nothing else: by
/// Landlock (no path, no TCP port, no abstract socket, no signal to others) and by a filter that allows the system calls which reading,
/// computing and writing take, and ends the process with SIGSYS at any other; standard error names the call before. Freed memory is kept for
/// the next buffer. Call it with one thread.
///
/// Returns 0, or -1 with errno where the process could not be limited at all; `granted` tells of filter and Landlock, whose lack is no error
/// here, since older kernels have neither.
int clinux_confine_stage(const clinux_stage_limits *limits, int without, clinux_confinement *granted);

/// Tries something that a confined process must not be able to do: "open", "socket", "fork", "exec", "signal", "trace", "code".
///
/// Returns 0 where it succeeded, its errno where it was refused, and -1 for a name that it does not know. Does not return where the filter
/// ends the process.
int clinux_try(const char *what);

/// Opens a file that a library will open by this name when it can open nothing any more. Returns 0, or -1 with errno.
int clinux_lend(const char *path);

/// Installs the filter of system calls (seccomp(2)) and the handler that names what was refused. Returns 0, or -1 with errno.
int clinux_filter_system_calls(void);

#endif
