#pragma once
#include <errno.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "check.hpp"
#include "fuse/session.hpp"

// A session whose kernel is the test: a socket pair that keeps message boundaries, as /dev/fuse does.
namespace fuse_fixture {

using namespace peel::fuse;

/** Bytes from hex text; blanks are for the reader. */
inline std::vector<uint8_t> hex(const std::string& text) {
  std::vector<uint8_t> out;
  int high = -1;
  for (const char c : text) {
    if (c == ' ') continue;
    const int digit = c <= '9' ? c - '0' : c - 'a' + 10;
    if (high < 0) {
      high = digit;
    } else {
      out.push_back(static_cast<uint8_t>(high << 4 | digit));
      high = -1;
    }
  }
  return out;
}

struct Answer {
  bool came = false;
  OutHeader header{};
  std::vector<uint8_t> body;
  template <class T>
  T as() const {
    CHECK_EQ(body.size(), sizeof(T));
    T out;
    std::memcpy(&out, body.data(), sizeof out);
    return out;
  }
};

class Kernel {
 public:
  explicit Kernel(std::shared_ptr<Filesystem> filesystem, unsigned threads = 2) {
    int pair[2];
    CHECK_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, pair), 0);
    fd_ = pair[0];
    kept_ = peel::Fd(pair[1]);
    serve(std::move(filesystem), threads);
  }

  /** Another process takes the connection over; the one before has gone. With `taken`, it keeps how far requests were taken there. */
  void serve(std::shared_ptr<Filesystem> filesystem, unsigned threads, std::optional<Adoption> adoption = {},
             const std::string& taken = {}) {
    session.reset();
    Session::Options options;
    options.fd = ::dup(kept_.get());
    options.threads = threads;
    options.filesystem = std::move(filesystem);
    options.adoption = adoption;
    if (!taken.empty()) CHECK_EQ(TakenRequests::open(taken, options.taken), 0);
    options.onClosed = [this](const std::string& reason) { reason_ = reason; };
    options.onError = [this](const std::string& text) {
      std::lock_guard lock(mutex_);
      errors_.push_back(text);
    };
    session = std::make_unique<Session>(std::move(options));
  }
  ~Kernel() {
    session.reset();
    ::close(fd_);
  }

  /** Nobody keeps the connection any more: it ends with the session. */
  void letGo() { kept_.reset(); }

  /** As it is: also what no kernel would send. */
  void send(const std::vector<uint8_t>& bytes) { CHECK(trySend(bytes)); }
  /** False when the session has ended. */
  bool trySend(const std::vector<uint8_t>& bytes) {
    return ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }

  Answer receive(int timeoutMs = 5000) {
    Answer answer;
    pollfd waiting{fd_, POLLIN, 0};
    int ready;
    // A fuzzer's clock interrupts.
    do ready = ::poll(&waiting, 1, timeoutMs);
    while (ready < 0 && errno == EINTR);
    if (ready != 1) return answer;
    const ssize_t size = ::recv(fd_, buffer_.data(), buffer_.size(), 0);
    ended_ = size <= 0;
    if (ended_) return answer;
    CHECK(size >= static_cast<ssize_t>(sizeof(OutHeader)));
    std::memcpy(&answer.header, buffer_.data(), sizeof(OutHeader));
    CHECK_EQ(answer.header.len, static_cast<uint32_t>(size));
    answer.body.assign(buffer_.begin() + sizeof(OutHeader), buffer_.begin() + size);
    answer.came = true;
    return answer;
  }

  Answer call(const std::vector<uint8_t>& bytes) {
    send(bytes);
    const Answer answer = receive();
    CHECK(answer.came);
    return answer;
  }

  /** A request made of its parts, for tests that are not about the layout. */
  template <class Args>
  std::vector<uint8_t> request(Opcode opcode, uint64_t unique, uint64_t node, const Args& args) {
    InHeader header{};
    header.len = sizeof header + sizeof args;
    header.opcode = static_cast<uint32_t>(opcode);
    header.unique = unique;
    header.nodeid = node;
    header.pid = static_cast<uint32_t>(::gettid());
    std::vector<uint8_t> out(header.len);
    std::memcpy(out.data(), &header, sizeof header);
    std::memcpy(out.data() + sizeof header, &args, sizeof args);
    return out;
  }

  /** Whether that is why no answer was received. */
  bool hasEnded() const { return ended_; }

  void hangUp() { ::shutdown(fd_, SHUT_RDWR); }
  bool isAsleep() {
    pollfd waiting{fd_, POLLIN, 0};
    return ::poll(&waiting, 1, 30) == 0;
  }

  const std::string& reason() const { return reason_; }
  std::vector<std::string> errors() {
    std::lock_guard lock(mutex_);
    return errors_;
  }

  std::unique_ptr<Session> session;

 private:
  int fd_;
  bool ended_ = false;
  peel::Fd kept_;  // as a keeper has it
  std::vector<uint8_t> buffer_ = std::vector<uint8_t>(128 << 10);
  std::string reason_;
  std::mutex mutex_;
  std::vector<std::string> errors_;
};

}  // namespace fuse_fixture
