// Messages with file descriptors beside them (SCM_RIGHTS): what the keeper and the daemon say to each other over a SOCK_SEQPACKET unix socket,
// and how fusermount3 gives its connection.
#pragma once
#include <stddef.h>

#include <string>
#include <vector>

#include "sys/fd.hpp"

namespace peel {

/** Bytes of a message; a longer one is refused by both sides. */
constexpr size_t kMaxFdMessage = 65536;

struct FdMessage {
  std::string text;
  std::vector<Fd> fds;  // close-on-exec
};

/** A socket that does not block. 0 or -errno: -ENOENT and -ECONNREFUSED where nobody listens, -EAGAIN when too many wait, -ENAMETOOLONG. */
int connectFdSocket(const std::string& path, Fd& out);

/** One message; `fd` may be -1. `flags` as of sendmsg(2). -EPIPE when the peer is gone: no signal comes. */
int sendFdMessage(int socket, const std::string& text, int fd, int flags);

/**
 * One message. -ENOTCONN when the peer has closed; -EMSGSIZE for a message that is longer than allowed, -EMFILE when not all of its fds
 * could be opened here: what came of it is closed, and the next message can be read.
 */
int receiveFdMessage(int socket, FdMessage& out, int flags);

/** Both ends of a stream socket, close-on-exec: spawning with one as a stdio entry clears that. 0 or -errno. */
int makeFdSocket(Fd& ours, Fd& theirs);

/** Waits for one fd, whatever is said beside it (fusermount3: a byte). 0; -ENODATA when the peer closed without sending one; -errno. */
int receiveFd(int socket, Fd& out);

/**
 * Sends a request and receives its answers: all messages with an fd, and the first without, which is the last. -ETIMEDOUT when one of them
 * takes longer than `timeoutMs`, after which the socket is of no use.
 */
int exchangeFdMessages(int socket, const std::string& request, int fd, int timeoutMs, std::vector<FdMessage>& answers);

}  // namespace peel
