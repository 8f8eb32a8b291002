#include "sys/thread_status.hpp"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include <string>

#include "sys/fd.hpp"

namespace peel {

bool threadStatusBit(uint32_t tid, const char* field, unsigned bit) {
  const std::string path = "/proc/" + std::to_string(tid) + "/status";
  const Fd fd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return false;
  std::string text;
  char part[8192];
  for (ssize_t size; (size = ::read(fd.get(), part, sizeof part)) > 0;) text.append(part, static_cast<size_t>(size));
  const std::string key = std::string("\n") + field + ":";
  const size_t at = text.find(key);
  if (at == std::string::npos) return false;
  return (::strtoull(text.c_str() + at + key.size(), nullptr, 16) >> bit & 1) != 0;
}

}  // namespace peel
