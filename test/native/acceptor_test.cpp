// Connections are accepted also where no more files may be opened.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <thread>

#include "check.hpp"
#include "sys/acceptor.hpp"
#include "sys/listen_unix.hpp"

using peel::Acceptor;
using peel::Fd;
using namespace std::chrono_literals;

namespace {

const std::string path = "/tmp/peel-acceptor-" + std::to_string(::getpid());

size_t openFiles() {
  size_t count = 0;
  for ([[maybe_unused]] const auto& file : std::filesystem::directory_iterator("/proc/self/fd")) count++;
  return count;
}

Fd socketOf() {
  Fd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  CHECK(fd.valid());
  return fd;
}

void connectTo(const Fd& client) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::memcpy(address.sun_path, path.data(), path.size());
  CHECK_EQ(::connect(client.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
}

bool waitFor(const std::function<bool()>& is) {
  for (int i = 0; i < 1000 && !is(); i++) std::this_thread::sleep_for(5ms);
  return is();
}

struct Accepted {
  std::mutex mutex;
  std::vector<Fd> all;

  Acceptor::OnConnection taker() {
    return [this](Fd fd) {
      std::lock_guard lock(mutex);
      all.push_back(std::move(fd));
    };
  }
  size_t count() {
    std::lock_guard lock(mutex);
    return all.size();
  }
  void closeFirst() {
    std::lock_guard lock(mutex);
    all.erase(all.begin());
  }
};

// No more files may be opened than there are.
class NoMoreFiles {
 public:
  NoMoreFiles() {
    CHECK_EQ(getrlimit(RLIMIT_NOFILE, &before_), 0);
    const rlimit small{64, before_.rlim_max};
    CHECK_EQ(setrlimit(RLIMIT_NOFILE, &small), 0);
    for (;;) {
      Fd fd(::open("/dev/null", O_RDONLY | O_CLOEXEC));
      if (!fd.valid()) break;
      fill_.push_back(std::move(fd));
    }
    CHECK_EQ(errno, EMFILE);
  }
  ~NoMoreFiles() { setrlimit(RLIMIT_NOFILE, &before_); }

 private:
  rlimit before_{};
  std::vector<Fd> fill_;
};

}  // namespace

TEST(connections_are_accepted_where_no_file_may_be_opened_and_others_wait) {
  const size_t before = openFiles();
  {
    Accepted accepted;
    Fd listening;
    CHECK_EQ(peel::listenUnix(path, listening), 0);
    Acceptor acceptor;
    CHECK_EQ(acceptor.start(std::move(listening), accepted.taker()), 0);
    std::vector<Fd> clients;
    for (size_t i = 0; i < Acceptor::kSpares + 3; i++) clients.push_back(socketOf());
    connectTo(clients[0]);
    CHECK(waitFor([&] { return accepted.count() == 1; }));
    {
      NoMoreFiles none;
      for (size_t i = 1; i <= Acceptor::kSpares + 1; i++) connectTo(clients[i]);
      CHECK(waitFor([&] { return accepted.count() == Acceptor::kSpares + 1; }));
      std::this_thread::sleep_for(150ms);
      CHECK_EQ(accepted.count(), Acceptor::kSpares + 1);
      accepted.closeFirst();
      CHECK(waitFor([&] { return accepted.count() == Acceptor::kSpares + 1; }));
    }
    connectTo(clients.back());
    CHECK(waitFor([&] { return accepted.count() == Acceptor::kSpares + 2; }));
    acceptor.stop();
    acceptor.stop();
    Fd late = socketOf();
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path.data(), path.size());
    CHECK(::connect(late.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) < 0);
  }
  ::unlink(path.c_str());
  CHECK_EQ(openFiles(), before);
}

TEST(an_idle_acceptor_uses_no_processor) {
  Accepted accepted;
  Fd listening;
  CHECK_EQ(peel::listenUnix(path, listening), 0);
  Acceptor acceptor;
  CHECK_EQ(acceptor.start(std::move(listening), accepted.taker()), 0);
  const NoMoreFiles none;
  rusage start{}, end{};
  ::getrusage(RUSAGE_SELF, &start);
  std::this_thread::sleep_for(300ms);
  ::getrusage(RUSAGE_SELF, &end);
  const auto ms = [](const timeval& time) { return time.tv_sec * 1000 + time.tv_usec / 1000; };
  CHECK(ms(end.ru_utime) + ms(end.ru_stime) - ms(start.ru_utime) - ms(start.ru_stime) < 60);
  ::unlink(path.c_str());
}

TEST_MAIN
