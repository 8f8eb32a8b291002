#pragma once
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <string>
#include <vector>

// The smallest test frame that does: TEST(name) { CHECK(...); } and run every one of them.
namespace check {

struct Test {
  const char* name;
  void (*body)();
};

inline std::vector<Test>& tests() {
  static std::vector<Test> all;
  return all;
}

struct Register {
  Register(const char* name, void (*body)()) { tests().push_back({name, body}); }
};

[[noreturn]] inline void failed(const char* file, int line, const std::string& what) {
  std::fprintf(stderr, "%s:%d: %s\n", file, line, what.c_str());
  std::exit(1);
}

template <class A, class B>
void equal(const A& a, const B& b, const char* file, int line, const char* what) {
  if (a == b) return;
  if constexpr (std::is_arithmetic_v<A> && std::is_arithmetic_v<B>) {
    failed(file, line, std::string(what) + ": " + std::to_string(a) + " and " + std::to_string(b));
  } else {
    failed(file, line, what);
  }
}

// Repeatable randomness.
struct Random {
  uint64_t state;
  uint64_t next() {
    state += 0x9E3779B97F4A7C15u;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
    return z ^ (z >> 31);
  }
  uint64_t below(uint64_t n) { return next() % n; }
};

inline double scale() {
  const char* text = std::getenv("PEEL_TEST_SCALE");
  return text ? std::atof(text) : 0.2;
}

}  // namespace check

#define TEST(name)                                          \
  static void name();                                       \
  static const check::Register register_##name{#name, name}; \
  static void name()

#define CHECK(what) \
  do {              \
    if (!(what)) check::failed(__FILE__, __LINE__, #what); \
  } while (0)

#define CHECK_EQ(a, b) check::equal((a), (b), __FILE__, __LINE__, #a " == " #b)

#define TEST_MAIN                                              \
  int main() {                                                 \
    for (const auto& test : check::tests()) {                  \
      test.body();                                             \
      std::printf("ok %s\n", test.name);                       \
      std::fflush(stdout);                                     \
    }                                                          \
    std::printf("%zu tests\n", check::tests().size());         \
  }
