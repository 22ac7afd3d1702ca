#ifndef CLINUX_DATAGRAMS_H
#define CLINUX_DATAGRAMS_H
#include <stddef.h>
#include <stdint.h>
#include <sys/socket.h>

/// Room for `CLINUX_BATCH_MAX` datagrams, received by one system call (recvmmsg(2)).
#define CLINUX_BATCH_MAX 64
#define CLINUX_DATAGRAM_BYTES 9216
typedef struct clinux_batch clinux_batch;

typedef struct {
    uint8_t *bytes;
    size_t length;
    /// Longer than a buffer: the rest is lost.
    int is_truncated;
    /// Kernel's receive time, ns since 1970 (SO_TIMESTAMPNS).
    int64_t arrival;
    /// Datagrams that the kernel dropped on this socket so far (SO_RXQ_OVFL), or -1 if it said nothing.
    int64_t kernel_drops;
    struct sockaddr_storage source;
    socklen_t source_length;
} clinux_datagram;

clinux_batch *clinux_batch_make(void);
void clinux_batch_free(clinux_batch *batch);
/// Receives what is there without waiting. Returns the number of datagrams, 0 if there is none, or -1 with errno set.
int clinux_batch_receive(clinux_batch *batch, int socket);
/// Overwrites what was received, so that nothing dropped by the gate stays in memory longer than its batch.
void clinux_batch_wipe(clinux_batch *batch);
clinux_datagram *clinux_batch_at(clinux_batch *batch, int place);

/// A bound, non-blocking UDP socket that reports receive times and drops; port 0 takes any. `address` is numeric, IPv4 or IPv6.
/// Returns the descriptor, or -1 with errno set.
int clinux_udp_bind(const char *address, uint16_t port, int receive_buffer_bytes);
/// The port a socket is bound to, or 0.
uint16_t clinux_bound_port(int socket);
/// Bytes of the receive buffer that the kernel really gave.
int clinux_receive_buffer(int socket);
/// A numeric address and port as a socket address. Returns its length, or 0 for no address.
socklen_t clinux_socket_address(const char *address, uint16_t port, struct sockaddr_storage *out);
/// The 16 bytes of an address, IPv4 as ::ffff:a.b.c.d. Returns 0, or -1 for another family.
int clinux_address_bytes(const struct sockaddr_storage *address, uint8_t out[16]);
uint16_t clinux_address_port(const struct sockaddr_storage *address);
#endif
