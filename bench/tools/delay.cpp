// A link of a given round trip: forwards TCP connections and holds every byte back for half of it, in each direction.
//   delay LISTEN PORT TARGET PORT ROUND_TRIP_MS
// What the first bytes of a connection wait for besides is the handshake, which the kernel has answered at once. Slow start is not
// simulated: a connection carries the link's whole rate from its first byte.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

using Clock = std::chrono::steady_clock;

/** More than the fastest link here carries in half a round trip, and a bound on memory. */
static constexpr size_t max_queued = size_t{32} << 20;
static constexpr size_t piece_bytes = size_t{256} << 10;

struct Piece {
  Clock::time_point due;
  std::vector<char> bytes;  // Empty: the sender has ended.
};

/** One way: what was received and is not due yet. */
struct Way {
  std::mutex lock;
  std::condition_variable changed;
  std::deque<Piece> queue;
  size_t queued = 0;
  bool broken = false;
};

struct Connection {
  int client;
  int server;
  Way up;
  Way down;
  Connection(int client, int server) : client(client), server(server) {}
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  ~Connection() {
    close(client);
    close(server);
  }
};

[[noreturn]] static void fail(const char* what) {
  std::perror(what);
  std::exit(1);
}

static void receive(int from, Way& way, Clock::duration delay, Clock::time_point earliest) {
  for (;;) {
    std::vector<char> bytes(piece_bytes);
    const ssize_t got = recv(from, bytes.data(), bytes.size(), 0);
    bytes.resize(got > 0 ? static_cast<size_t>(got) : 0);
    const auto due = std::max(Clock::now() + delay, earliest);
    std::unique_lock hold(way.lock);
    way.changed.wait(hold, [&] { return way.broken || way.queued < max_queued; });
    if (way.broken) return;
    way.queued += bytes.size();
    way.queue.push_back({due, std::move(bytes)});
    way.changed.notify_all();
    if (got <= 0) return;
  }
}

static bool send_all(int to, const std::vector<char>& bytes) {
  size_t sent = 0;
  while (sent < bytes.size()) {
    const ssize_t n = send(to, bytes.data() + sent, bytes.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) return false;
    sent += static_cast<size_t>(n);
  }
  return true;
}

static void deliver(int from, int to, Way& way) {
  for (;;) {
    Piece piece;
    {
      std::unique_lock hold(way.lock);
      way.changed.wait(hold, [&] { return !way.queue.empty(); });
      piece = std::move(way.queue.front());
      way.queue.pop_front();
    }
    std::this_thread::sleep_until(piece.due);
    if (piece.bytes.empty()) {
      shutdown(to, SHUT_WR);
      return;
    }
    const bool sent = send_all(to, piece.bytes);
    std::lock_guard hold(way.lock);
    way.queued -= piece.bytes.size();
    way.broken = !sent;
    way.changed.notify_all();
    if (sent) continue;
    // Nobody reads any more: who sends is to know.
    shutdown(from, SHUT_RD);
    shutdown(to, SHUT_RDWR);
    return;
  }
}

static sockaddr_in address(const char* host, const char* port) {
  sockaddr_in at{};
  at.sin_family = AF_INET;
  at.sin_port = htons(static_cast<uint16_t>(std::atoi(port)));
  if (inet_pton(AF_INET, host, &at.sin_addr) != 1) fail(host);
  return at;
}

static int connected(const sockaddr_in& target) {
  const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd >= 0 && connect(fd, reinterpret_cast<const sockaddr*>(&target), sizeof target) == 0) return fd;
  if (fd >= 0) close(fd);
  return -1;
}

int main(int argc, char** argv) {
  if (argc != 6) {
    std::fprintf(stderr, "usage: delay LISTEN PORT TARGET PORT ROUND_TRIP_MS\n");
    return 2;
  }
  std::signal(SIGPIPE, SIG_IGN);
  const auto half = std::chrono::microseconds(std::lround(std::atof(argv[5]) * 500));
  const sockaddr_in here = address(argv[1], argv[2]);
  const sockaddr_in target = address(argv[3], argv[4]);
  const int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  const int one = 1;
  setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  if (bind(listener, reinterpret_cast<const sockaddr*>(&here), sizeof here) != 0) fail("bind");
  if (listen(listener, 512) != 0) fail("listen");
  for (;;) {
    const int client = accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (client < 0) continue;
    const int server = connected(target);
    if (server < 0) {
      close(client);
      continue;
    }
    for (const int fd : {client, server}) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    auto connection = std::make_shared<Connection>(client, server);
    const auto handshaken = Clock::now() + 3 * half;
    std::thread([connection, half, handshaken] {
      receive(connection->client, connection->up, half, handshaken);
    }).detach();
    std::thread([connection] { deliver(connection->client, connection->server, connection->up); }).detach();
    std::thread([connection, half] { receive(connection->server, connection->down, half, {}); }).detach();
    std::thread([connection] { deliver(connection->server, connection->client, connection->down); }).detach();
  }
}
