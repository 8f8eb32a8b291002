#include "sys/pool.hpp"

#include <pthread.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <thread>

namespace peel {
namespace {

constexpr int kYielding = 10;

size_t processors() { return std::clamp<size_t>(std::thread::hardware_concurrency(), 2, 16); }

}  // namespace

// Never destroyed: at process exit a thread may still be inside work().
Pool& Pool::cpu() {
  static Pool* pool = new Pool(processors(), 0);
  return *pool;
}

Pool& Pool::background() {
  static Pool* pool = new Pool(processors(), kYielding);
  return *pool;
}

Pool& Pool::io() {
  static Pool* pool = new Pool(4, 0);
  return *pool;
}

Pool& Pool::hashing() {
  static Pool* pool = new Pool(2, kYielding);
  return *pool;
}

Pool::Pool(size_t threads, int niceness) : threads_(threads) {
  // Signals are for the JavaScript thread.
  sigset_t all, before;
  sigfillset(&all);
  pthread_sigmask(SIG_SETMASK, &all, &before);
  for (size_t i = 0; i < threads; i++) {
    std::thread thread([this, niceness] {
      // Of this thread alone, which only Linux has. Without it the work is done all the same.
      if (niceness != 0) ::setpriority(PRIO_PROCESS, static_cast<id_t>(::syscall(SYS_gettid)), niceness);
      work();
    });
    pthread_setname_np(thread.native_handle(), "peel-pool");
    thread.detach();
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

void Pool::submit(std::function<void()> job) {
  {
    std::lock_guard lock(mutex_);
    jobs_.push_back(std::move(job));
  }
  wakeUp_.notify_one();
}

void Pool::work() {
  for (;;) {
    std::function<void()> job;
    {
      std::unique_lock lock(mutex_);
      wakeUp_.wait(lock, [&] { return !jobs_.empty(); });
      job = std::move(jobs_.front());
      jobs_.pop_front();
    }
    job();
  }
}

}  // namespace peel
