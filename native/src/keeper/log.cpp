#include "keeper/log.hpp"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>

namespace peel::keeper {
namespace {

/** What a pipe that is writable takes without blocking. */
constexpr size_t kPiece = 4096;

void appendQuoted(std::string& out, std::string_view text) {
  out += '"';
  for (const char c : text) {
    if (c == '"' || c == '\\') out += '\\', out += c;
    else if (static_cast<unsigned char>(c) < ' ') {
      char escaped[8];
      ::snprintf(escaped, sizeof escaped, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
      out += escaped;
    } else out += c;
  }
  out += '"';
}

std::string isoTime() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  tm parts{};
  ::gmtime_r(&now.tv_sec, &parts);
  char text[32], whole[48];
  ::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
  ::snprintf(whole, sizeof whole, "%s.%03dZ", text, static_cast<int>(now.tv_nsec / 1'000'000));
  return whole;
}

bool isWritable() {
  pollfd entry{STDERR_FILENO, POLLOUT, 0};
  return ::poll(&entry, 1, 0) > 0;
}

}  // namespace

void Log::say(Level level, std::string_view message) {
  std::string line = "{\"level\":" + std::to_string(static_cast<int>(level)) + ",\"time\":\"" + isoTime() +
                     "\",\"pid\":" + std::to_string(::getpid()) + ",\"component\":\"keeper\",\"msg\":";
  appendQuoted(line, message);
  pass(line + "}\n");
}

void Log::pass(std::string_view bytes) {
  if (isFull()) return;
  waiting_ += bytes;
  flush();
}

void Log::flush() {
  while (!waiting_.empty() && isWritable()) {
    const ssize_t size = ::write(STDERR_FILENO, waiting_.data(), std::min(kPiece, waiting_.size()));
    if (size < 0 && (errno == EINTR || errno == EAGAIN)) return;
    // Nobody reads it any more, or the disk is full: what cannot be written is lost.
    waiting_.erase(0, size < 0 ? std::string::npos : static_cast<size_t>(size));
  }
}

void Log::flushAll() {
  for (int tries = 0; tries < 20 && isWaiting(); ++tries) {
    pollfd entry{STDERR_FILENO, POLLOUT, 0};
    ::poll(&entry, 1, 50);
    flush();
  }
}

}  // namespace peel::keeper
