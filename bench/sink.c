/*
 * A loopback-only HTTP/1.1 sink for benchmarks: takes requests, keeps nothing, answers at once.
 *
 *     gcc -O2 -Wall -Wextra -o sink bench/sink.c
 *     sink PORT [DELAY_MS]        PORT 0 picks one; prints "listening PORT"
 *
 * POST anything       202 with an X-Message-Id; the body is read and thrown away
 * POST /count...      the same, and occurrences of "nl_reader" (with its quotes) are counted
 * GET /stats          {"requests":n,"bytes":n,"readers":n}; POSTs and the bytes of their bodies
 * GET /quit           answers and exits 0
 *
 * One thread, epoll, keep-alive, pipelining and "Connection: close". DELAY_MS holds each answer to a
 * POST that long (0 to 1 ms longer, epoll's step) without holding up any other. Exits after 30 minutes.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
    LIFETIME_SECONDS = 30 * 60,
    RECEIVE_BYTES = 1 << 20,
    HEAD_BYTES = 16 << 10,
    EVENTS = 256,
    TURN = 64, /* receives from one connection before the others get their turn */
    ANSWER_BYTES = 256,
};

static const char NEEDLE[] = "\"nl_reader\"";
enum { NEEDLE_BYTES = sizeof NEEDLE - 1, CARRY_BYTES = NEEDLE_BYTES - 1 };

typedef struct Connection {
    int fd;
    int held;       /* answers of this connection in the queue */
    bool closed;    /* fd is gone; freed when held is 0 */
    bool last;      /* close when this request is answered */
    bool in_body;
    bool counts;    /* look for NEEDLE in this body */
    bool is_post;
    bool wants_out; /* EPOLLOUT is armed */
    uint64_t left;  /* of the body */
    size_t head_length;
    size_t carry_length;
    char *out;
    size_t out_length, out_sent, out_size;
    char carry[CARRY_BYTES];
    char path[1024];
    char head[HEAD_BYTES];
} Connection;

/* An answer that is held. The delay is the same for all, so the queue is in order of time. */
typedef struct Held {
    struct Held *next;
    Connection *connection;
    int64_t due;
    size_t length;
    char answer[ANSWER_BYTES];
} Held;

static int poller;
static int64_t delay_ns;
static uint64_t requests, body_bytes, readers, messages;
static Held *first_held, *last_held;
static bool quitting;
static char received[RECEIVE_BYTES];

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static void out_of_time(int signal_number) {
    (void)signal_number;
    _exit(0);
}

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void drop(Connection *connection) {
    if (!connection->closed) {
        close(connection->fd); /* which takes it out of epoll too */
        connection->closed = true;
    }
}

static void free_if_done(Connection *connection) {
    if (connection->closed && connection->held == 0) {
        free(connection->out);
        free(connection);
    }
}

static void watch(Connection *connection, bool wants_out) {
    struct epoll_event event = {.events = EPOLLIN | (wants_out ? EPOLLOUT : 0), .data.ptr = connection};
    if (connection->wants_out != wants_out && epoll_ctl(poller, EPOLL_CTL_MOD, connection->fd, &event) < 0)
        fail("epoll_ctl");
    connection->wants_out = wants_out;
}

/* Send what waits in the connection's own buffer, as far as the socket takes it. */
static void flush_out(Connection *connection) {
    while (!connection->closed && connection->out_sent < connection->out_length) {
        ssize_t sent = send(connection->fd, connection->out + connection->out_sent,
                            connection->out_length - connection->out_sent, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent < 0 && errno == EAGAIN) {
            watch(connection, true);
            return;
        }
        if (sent < 0) {
            drop(connection);
            return;
        }
        connection->out_sent += (size_t)sent;
    }
    connection->out_sent = connection->out_length = 0;
    if (connection->closed)
        return;
    watch(connection, false);
    if (connection->last && connection->held == 0 && !connection->in_body)
        drop(connection);
}

static void write_out(Connection *connection, const char *bytes, size_t length) {
    if (connection->closed)
        return;
    if (connection->out_length + length > connection->out_size) {
        connection->out_size = (connection->out_length + length) * 2;
        connection->out = realloc(connection->out, connection->out_size);
        if (connection->out == NULL)
            fail("realloc");
    }
    memcpy(connection->out + connection->out_length, bytes, length);
    connection->out_length += length;
    flush_out(connection);
}

/* Answer now, or after the delay; behind earlier answers of the same connection in either case. */
static void answer(Connection *connection, const char *bytes, size_t length, bool at_once) {
    if (delay_ns == 0 || (at_once && connection->held == 0)) {
        write_out(connection, bytes, length);
        return;
    }
    Held *held = malloc(sizeof *held);
    if (held == NULL)
        fail("malloc");
    held->next = NULL;
    held->connection = connection;
    held->due = now_ns() + delay_ns;
    held->length = length;
    memcpy(held->answer, bytes, length);
    connection->held++;
    if (last_held != NULL)
        last_held->next = held;
    else
        first_held = held;
    last_held = held;
}

static void release_held(void) {
    if (first_held == NULL)
        return;
    int64_t now = now_ns();
    while (first_held != NULL && first_held->due <= now) {
        Held *held = first_held;
        Connection *connection = held->connection;
        first_held = held->next;
        if (first_held == NULL)
            last_held = NULL;
        connection->held--;
        write_out(connection, held->answer, held->length);
        free_if_done(connection);
        free(held);
    }
}

static void answer_status(Connection *connection, const char *status) {
    char bytes[ANSWER_BYTES];
    int length = snprintf(bytes, sizeof bytes, "HTTP/1.1 %s\r\nContent-Length: 0\r\n\r\n", status);
    answer(connection, bytes, (size_t)length, true);
}

/* The request is whole. */
static void finish(Connection *connection) {
    char bytes[ANSWER_BYTES], json[128];
    int length;

    connection->in_body = false;
    if (connection->is_post) {
        requests++;
        length = snprintf(bytes, sizeof bytes,
                          "HTTP/1.1 202 Accepted\r\nX-Message-Id: m%llu\r\nContent-Length: 0\r\n\r\n",
                          (unsigned long long)++messages);
        answer(connection, bytes, (size_t)length, false);
    } else if (strcmp(connection->path, "/stats") == 0) {
        int size = snprintf(json, sizeof json, "{\"requests\":%llu,\"bytes\":%llu,\"readers\":%llu}",
                            (unsigned long long)requests, (unsigned long long)body_bytes,
                            (unsigned long long)readers);
        length = snprintf(bytes, sizeof bytes,
                          "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s",
                          size, json);
        answer(connection, bytes, (size_t)length, true);
    } else if (strcmp(connection->path, "/quit") == 0) {
        answer_status(connection, "200 OK");
        quitting = true;
    } else {
        answer_status(connection, "404 Not Found");
    }
}

static void count_in(const char *bytes, size_t length) {
    const char *end = bytes + length;
    while ((bytes = memmem(bytes, (size_t)(end - bytes), NEEDLE, NEEDLE_BYTES)) != NULL) {
        readers++;
        bytes++;
    }
}

/* Count in a piece of a body, and across the seam to the piece before. */
static void count_piece(Connection *connection, const char *bytes, size_t length) {
    char seam[2 * CARRY_BYTES];
    size_t head = length < CARRY_BYTES ? length : CARRY_BYTES;

    memcpy(seam, connection->carry, connection->carry_length);
    memcpy(seam + connection->carry_length, bytes, head);
    size_t seam_length = connection->carry_length + head;
    count_in(seam, seam_length);
    count_in(bytes, length);
    if (length >= CARRY_BYTES) {
        memcpy(connection->carry, bytes + length - CARRY_BYTES, CARRY_BYTES);
        connection->carry_length = CARRY_BYTES;
    } else {
        size_t kept = seam_length < CARRY_BYTES ? seam_length : CARRY_BYTES;
        memcpy(connection->carry, seam + seam_length - kept, kept);
        connection->carry_length = kept;
    }
}

static void take_body(Connection *connection, const char *bytes, size_t length) {
    connection->left -= length;
    if (connection->is_post)
        body_bytes += length;
    if (connection->counts)
        count_piece(connection, bytes, length);
    if (connection->left == 0)
        finish(connection);
}

static bool value_of(const char *line, const char *name, const char **value) {
    size_t length = strlen(name);
    if (strncasecmp(line, name, length) != 0 || line[length] != ':')
        return false;
    *value = line + length + 1;
    *value += strspn(*value, " \t");
    return true;
}

/* Read the head, which ends in \r\n and a zero byte. False: it cannot be served. */
static bool read_head(Connection *connection) {
    char method[16], version[16];
    const char *value;
    bool expects = false, is_unread = false;

    connection->left = 0;
    connection->carry_length = 0;
    if (sscanf(connection->head, "%15s %1023s HTTP/%15s", method, connection->path, version) != 3)
        return false;
    connection->is_post = strcmp(method, "POST") == 0;
    connection->counts = connection->is_post && strncmp(connection->path, "/count", 6) == 0;
    connection->last = strcmp(version, "1.0") == 0;
    for (char *line = strstr(connection->head, "\r\n"); line != NULL; line = strstr(line, "\r\n")) {
        line += 2;
        if (value_of(line, "Content-Length", &value))
            connection->left = strtoull(value, NULL, 10);
        else if (value_of(line, "Connection", &value))
            connection->last = strncasecmp(value, "close", 5) == 0;
        else if (value_of(line, "Expect", &value))
            expects = true;
        else if (value_of(line, "Transfer-Encoding", &value))
            is_unread = true;
    }
    if (is_unread) {
        connection->last = true;
        answer_status(connection, "411 Length Required");
        return false;
    }
    connection->in_body = connection->left > 0;
    if (expects && connection->in_body && connection->held == 0)
        write_out(connection, "HTTP/1.1 100 Continue\r\n\r\n", 25);
    return true;
}

/* Returns how many of the bytes belong to the head. */
static size_t take_head(Connection *connection, const char *bytes, size_t length) {
    size_t before = connection->head_length;
    size_t room = HEAD_BYTES - 1 - before;
    size_t copied = length < room ? length : room;
    size_t from = before > 3 ? before - 3 : 0;

    memcpy(connection->head + before, bytes, copied);
    connection->head_length += copied;
    char *end = memmem(connection->head + from, connection->head_length - from, "\r\n\r\n", 4);
    if (end == NULL) {
        if (connection->head_length == HEAD_BYTES - 1)
            drop(connection);
        return copied;
    }
    end[2] = '\0';
    connection->head_length = 0;
    if (!read_head(connection)) {
        drop(connection);
        return length;
    }
    if (!connection->in_body)
        finish(connection);
    return (size_t)(end + 4 - connection->head) - before;
}

static void take(Connection *connection, const char *bytes, size_t length) {
    while (length > 0 && !connection->closed) {
        size_t taken;
        if (connection->in_body) {
            taken = length < connection->left ? length : connection->left;
            take_body(connection, bytes, taken);
        } else if (connection->last) {
            return; /* nothing may follow the request that closes */
        } else {
            taken = take_head(connection, bytes, length);
        }
        bytes += taken;
        length -= taken;
    }
}

static void receive(Connection *connection) {
    for (int turn = 0; turn < TURN && !connection->closed; turn++) {
        ssize_t got = recv(connection->fd, received, RECEIVE_BYTES, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got < 0 && errno == EAGAIN)
            return;
        if (got <= 0) {
            drop(connection);
            return;
        }
        take(connection, received, (size_t)got);
        if (!connection->in_body && (size_t)got < RECEIVE_BYTES)
            return; /* most likely all there was; epoll tells when there is more */
    }
}

static void accept_all(int listener) {
    int fd, one = 1;
    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        Connection *connection = malloc(sizeof *connection);
        if (connection == NULL)
            fail("malloc");
        memset(connection, 0, offsetof(Connection, head));
        connection->fd = fd;
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        struct epoll_event event = {.events = EPOLLIN, .data.ptr = connection};
        if (epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event) < 0)
            fail("epoll_ctl");
    }
}

static int listen_on(uint16_t port) {
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;

    if (listener < 0)
        fail("socket");
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) < 0)
        fail("bind");
    if (listen(listener, 4096) < 0)
        fail("listen");
    if (getsockname(listener, (struct sockaddr *)&address, &length) < 0)
        fail("getsockname");
    printf("listening %d\n", ntohs(address.sin_port));
    fflush(stdout);
    return listener;
}

static int wait_ms(void) {
    if (first_held == NULL)
        return -1;
    int64_t left = first_held->due - now_ns();
    return left <= 0 ? 0 : (int)((left + 999999) / 1000000);
}

static long number(const char *text, long most) {
    char *end;
    long value = strtol(text, &end, 10);
    if (*text == '\0' || *end != '\0' || value < 0 || value > most) {
        fprintf(stderr, "not a number from 0 to %ld: %s\n", most, text);
        exit(2);
    }
    return value;
}

int main(int count, char **arguments) {
    struct epoll_event events[EVENTS];
    struct rlimit files;

    if (count < 2 || count > 3) {
        fprintf(stderr, "usage: sink PORT [DELAY_MS]\n");
        return 2;
    }
    delay_ns = count == 3 ? (int64_t)number(arguments[2], 600000) * 1000000 : 0;
    signal(SIGALRM, out_of_time);
    alarm(LIFETIME_SECONDS);
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max;
        setrlimit(RLIMIT_NOFILE, &files);
    }
    poller = epoll_create1(EPOLL_CLOEXEC);
    if (poller < 0)
        fail("epoll_create1");
    int listener = listen_on((uint16_t)number(arguments[1], 65535));
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event) < 0)
        fail("epoll_ctl");

    while (!quitting) {
        int ready = epoll_wait(poller, events, EVENTS, wait_ms());
        if (ready < 0 && errno != EINTR)
            fail("epoll_wait");
        for (int i = 0; i < ready; i++) {
            Connection *connection = events[i].data.ptr;
            if (connection == NULL) {
                accept_all(listener);
                continue;
            }
            if (events[i].events & EPOLLOUT)
                flush_out(connection);
            if (!connection->closed && events[i].events & (EPOLLIN | EPOLLERR | EPOLLHUP))
                receive(connection);
            free_if_done(connection);
        }
        release_held();
    }
    return 0;
}
