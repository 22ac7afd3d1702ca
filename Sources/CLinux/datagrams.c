#define _GNU_SOURCE
#include "include/datagrams.h"
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

struct clinux_batch {
    struct mmsghdr headers[CLINUX_BATCH_MAX];
    struct iovec vectors[CLINUX_BATCH_MAX];
    clinux_datagram datagrams[CLINUX_BATCH_MAX];
    union {
        char bytes[CMSG_SPACE(sizeof(struct timespec)) + CMSG_SPACE(sizeof(uint32_t))];
        struct cmsghdr align;
    } controls[CLINUX_BATCH_MAX];
    uint8_t buffers[CLINUX_BATCH_MAX][CLINUX_DATAGRAM_BYTES];
    int received;
};

clinux_batch *clinux_batch_make(void) { return calloc(1, sizeof(clinux_batch)); }
void clinux_batch_free(clinux_batch *batch) { free(batch); }
clinux_datagram *clinux_batch_at(clinux_batch *batch, int place) { return &batch->datagrams[place]; }

int clinux_batch_receive(clinux_batch *batch, int socket) {
    for (int i = 0; i < CLINUX_BATCH_MAX; i++) {
        batch->vectors[i] = (struct iovec){.iov_base = batch->buffers[i], .iov_len = CLINUX_DATAGRAM_BYTES};
        batch->headers[i].msg_hdr = (struct msghdr){
            .msg_name = &batch->datagrams[i].source, .msg_namelen = sizeof(struct sockaddr_storage), .msg_iov = &batch->vectors[i], .msg_iovlen = 1,
            .msg_control = batch->controls[i].bytes, .msg_controllen = sizeof batch->controls[i].bytes};
    }
    int count;
    do count = recvmmsg(socket, batch->headers, CLINUX_BATCH_MAX, MSG_DONTWAIT, NULL);
    while (count < 0 && errno == EINTR);
    if (count < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == ECONNREFUSED)) count = 0;
    batch->received = count < 0 ? 0 : count;
    struct timespec now = {0, 0};
    for (int i = 0; i < count; i++) {
        clinux_datagram *datagram = &batch->datagrams[i];
        struct msghdr *header = &batch->headers[i].msg_hdr;
        datagram->bytes = batch->buffers[i];
        datagram->length = batch->headers[i].msg_len;
        datagram->is_truncated = (header->msg_flags & MSG_TRUNC) != 0;
        datagram->source_length = header->msg_namelen;
        datagram->kernel_drops = -1;
        datagram->arrival = 0;
        for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c; c = CMSG_NXTHDR(header, c)) {
            if (c->cmsg_level != SOL_SOCKET) continue;
            if (c->cmsg_type == SCM_TIMESTAMPNS) {
                struct timespec time;
                memcpy(&time, CMSG_DATA(c), sizeof time);
                datagram->arrival = (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
            } else if (c->cmsg_type == SO_RXQ_OVFL) {
                uint32_t drops;
                memcpy(&drops, CMSG_DATA(c), sizeof drops);
                datagram->kernel_drops = drops;
            }
        }
        if (datagram->arrival == 0) {
            if (now.tv_sec == 0) clock_gettime(CLOCK_REALTIME, &now);
            datagram->arrival = (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
        }
    }
    return count;
}

void clinux_batch_wipe(clinux_batch *batch) {
    for (int i = 0; i < batch->received; i++) explicit_bzero(batch->buffers[i], batch->headers[i].msg_len);
    batch->received = 0;
}

socklen_t clinux_socket_address(const char *address, uint16_t port, struct sockaddr_storage *out) {
    memset(out, 0, sizeof *out);
    struct sockaddr_in *four = (struct sockaddr_in *)out;
    if (inet_pton(AF_INET, address, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        four->sin_port = htons(port);
        return sizeof *four;
    }
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)out;
    if (inet_pton(AF_INET6, address, &six->sin6_addr) == 1) {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(port);
        return sizeof *six;
    }
    return 0;
}

int clinux_udp_bind(const char *address, uint16_t port, int receive_buffer_bytes) {
    struct sockaddr_storage storage;
    socklen_t length = clinux_socket_address(address, port, &storage);
    if (length == 0) {
        errno = EINVAL;
        return -1;
    }
    int descriptor = socket(storage.ss_family, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (descriptor < 0) return -1;
    int yes = 1;
    // As much as asked where we may, else as much as the machine allows.
    if (setsockopt(descriptor, SOL_SOCKET, SO_RCVBUFFORCE, &receive_buffer_bytes, sizeof receive_buffer_bytes) != 0)
        setsockopt(descriptor, SOL_SOCKET, SO_RCVBUF, &receive_buffer_bytes, sizeof receive_buffer_bytes);
    setsockopt(descriptor, SOL_SOCKET, SO_TIMESTAMPNS, &yes, sizeof yes);
    setsockopt(descriptor, SOL_SOCKET, SO_RXQ_OVFL, &yes, sizeof yes);
    if (bind(descriptor, (struct sockaddr *)&storage, length) != 0) {
        int why = errno;
        close(descriptor);
        errno = why;
        return -1;
    }
    return descriptor;
}

uint16_t clinux_bound_port(int socket) {
    struct sockaddr_storage storage;
    socklen_t length = sizeof storage;
    return getsockname(socket, (struct sockaddr *)&storage, &length) == 0 ? clinux_address_port(&storage) : 0;
}

int clinux_receive_buffer(int socket) {
    int bytes = 0;
    socklen_t length = sizeof bytes;
    getsockopt(socket, SOL_SOCKET, SO_RCVBUF, &bytes, &length);
    return bytes;
}

int clinux_address_bytes(const struct sockaddr_storage *address, uint8_t out[16]) {
    if (address->ss_family == AF_INET6) {
        memcpy(out, &((const struct sockaddr_in6 *)address)->sin6_addr, 16);
        return 0;
    }
    if (address->ss_family != AF_INET) return -1;
    memset(out, 0, 10);
    memset(out + 10, 0xFF, 2);
    memcpy(out + 12, &((const struct sockaddr_in *)address)->sin_addr, 4);
    return 0;
}

uint16_t clinux_address_port(const struct sockaddr_storage *address) {
    if (address->ss_family == AF_INET) return ntohs(((const struct sockaddr_in *)address)->sin_port);
    return address->ss_family == AF_INET6 ? ntohs(((const struct sockaddr_in6 *)address)->sin6_port) : 0;
}
