#include "keeper/log_pipes.hpp"

#include <errno.h>
#include <fcntl.h>

namespace peel::keeper {
namespace {

constexpr size_t kTail = 16384;

}  // namespace

Fd LogPipes::open() {
  int pair[2];
  if (::pipe2(pair, O_CLOEXEC) < 0) return Fd();
  Fd theirs(pair[1]);
  pipes_.emplace_back(pair[0]);
  ::fcntl(pair[0], F_SETFL, O_NONBLOCK);
  daemons_ = pair[0];
  tail_.clear();
  return theirs;
}

void LogPipes::read(Log& log) {
  char bytes[4096];
  for (size_t i = 0; i < pipes_.size();) {
    ssize_t size = -1;
    while (!log.isFull() && (size = ::read(pipes_[i].get(), bytes, sizeof bytes)) > 0) {
      const std::string_view piece(bytes, static_cast<size_t>(size));
      log.pass(piece);
      if (pipes_[i].get() != daemons_) continue;
      tail_ += piece;
      if (tail_.size() > 2 * kTail) tail_.erase(0, tail_.size() - kTail);
    }
    if (size != 0) {
      ++i;
      continue;
    }
    if (pipes_[i].get() == daemons_) daemons_ = -1;
    pipes_.erase(pipes_.begin() + static_cast<std::ptrdiff_t>(i));
  }
}

std::vector<std::string> LogPipes::lastLines(size_t most) const {
  std::vector<std::string> lines;
  size_t end = tail_.size();
  while (end > 0 && lines.size() < most) {
    if (tail_[end - 1] == '\n') --end;
    const size_t before = end == 0 ? std::string::npos : tail_.rfind('\n', end - 1);
    const size_t start = before == std::string::npos ? 0 : before + 1;
    if (end > start) lines.insert(lines.begin(), tail_.substr(start, end - start));
    end = start;
  }
  return lines;
}

}  // namespace peel::keeper
