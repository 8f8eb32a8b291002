#include "keeper/request.hpp"

#include <algorithm>

namespace peel::keeper {
namespace {

constexpr size_t kMaxName = 255;
constexpr size_t kMaxWords = 1024;
constexpr int64_t kMaxTimeoutMs = 3'600'000;

}  // namespace

bool isFdName(std::string_view name) {
  return !name.empty() && name.size() <= kMaxName &&
         std::all_of(name.begin(), name.end(), [](char c) { return c >= ' ' && c < 127 && c != ':'; });
}

bool parseNumber(std::string_view text, int64_t max, int64_t& out) {
  if (text.empty() || text.size() > 18) return false;
  int64_t number = 0;
  for (const char c : text) {
    if (c < '0' || c > '9') return false;
    number = number * 10 + (c - '0');
  }
  if (number > max) return false;
  out = number;
  return true;
}

std::string parseRequest(std::string_view text, Request& out) {
  if (text.find('\0') != std::string_view::npos) return "a NUL in the message";
  bool isStore = false, isRemove = false, hasName = false;
  std::string own, wrong;
  forEachLine(text, [&](std::string_view key, std::string_view value) {
    if (key == "FDSTORE") isStore = value == "1";
    else if (key == "FDSTOREREMOVE") isRemove = value == "1";
    else if (key == "FDNAME") hasName = true, out.name = value;
    else if (key == "FDPOLL") out.isPolled = value != "0";
    else if (key == "PEEL") own = value;
    else if (key == "PATH") out.path = value;
    else if (key == "ARG") out.words.emplace_back(value);
    else if (key == "TIMEOUT_MSEC" && !parseNumber(value, kMaxTimeoutMs, out.timeoutMs)) wrong = "a time that is none";
  });
  if (!wrong.empty()) return wrong;
  if (out.words.size() > kMaxWords) return "too many arguments";
  if (isStore + isRemove + !own.empty() != 1) return "neither one thing to do nor only one";
  if (isStore || isRemove) {
    // As systemd calls what has no name.
    if (isStore && !hasName) out.name = "stored";
    if (!isFdName(out.name)) return "FDNAME is no name: 1 to 255 printable ASCII characters without a colon";
    out.wish = isStore ? Wish::Store : Wish::Remove;
    return "";
  }
  if (own == "fds") out.wish = Wish::Fds;
  else if (own == "status") out.wish = Wish::Status;
  else if (own == "upgrade") out.wish = Wish::Upgrade;
  else if (own == "reexec") out.wish = Wish::Reexec;
  else return "a request that this keeper does not know";
  if (!out.path.empty() && out.path[0] != '/') return "PATH is not absolute";
  if (out.wish == Wish::Upgrade && !out.words.empty() && out.words[0].empty()) return "an empty command";
  return "";
}

}  // namespace peel::keeper
