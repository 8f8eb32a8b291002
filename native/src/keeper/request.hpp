// What a client may ask: lines of KEY=VALUE as in sd_notify(3), and a few of our own.
#pragma once
#include <stdint.h>

#include <string>
#include <string_view>
#include <vector>

namespace peel::keeper {

enum class Wish : uint8_t { Store, Remove, Fds, Status, Upgrade, Reexec };

struct Request {
  Wish wish = Wish::Status;
  std::string name;                // of Store and Remove
  bool isPolled = true;            // of Store: dropped once it is dead
  std::vector<std::string> words;  // of Upgrade: the new command; none: the same again
  int64_t timeoutMs = 60'000;      // of Upgrade
  std::string path;                // of Reexec: none: the same file
};

/** Empty, or why it is no request. Lines with other keys are passed over, as systemd does. */
std::string parseRequest(std::string_view text, Request& out);

/** ASCII without control characters and colons, 1 to 255 of them. */
bool isFdName(std::string_view name);

/** Calls f(key, value) for each line; a line without "=" has an empty value. */
template <typename F>
void forEachLine(std::string_view text, F f) {
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = text.substr(0, end);
    const size_t sign = line.find('=');
    if (sign == std::string_view::npos) f(line, std::string_view());
    else f(line.substr(0, sign), line.substr(sign + 1));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
  }
}

/** Digits only, at most `max`; false when it is something else. */
bool parseNumber(std::string_view text, int64_t max, int64_t& out);

}  // namespace peel::keeper
