// The keeper's stderr: its own lines, and what the daemon writes. Never waits for who reads it.
#pragma once
#include <stddef.h>

#include <string>
#include <string_view>

namespace peel::keeper {

enum class Level : int { Info = 30, Warn = 40, Error = 50 };

class Log {
 public:
  /** One line of JSON, as the daemon's. Lost when too much waits to be written. */
  void say(Level level, std::string_view message);
  /** Bytes as they are. */
  void pass(std::string_view bytes);
  bool isFull() const { return waiting_.size() >= kMaxWaiting; }
  bool isWaiting() const { return !waiting_.empty(); }
  /** Writes what can be written now, to be called when stderr is writable. */
  void flush();
  /** Before the process ends: waits for a moment. */
  void flushAll();

 private:
  static constexpr size_t kMaxWaiting = 65536;
  std::string waiting_;
};

}  // namespace peel::keeper
