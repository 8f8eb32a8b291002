#include "sys/mount.hpp"

#include <errno.h>
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/wait.h>
#include <unistd.h>

namespace peel {
namespace {

/** A string value of fsconfig(2) has at most 255 bytes; longer paths go by a file descriptor's name. */
constexpr size_t kLongestValue = 255;

/** A filesystem context under construction; keeps the first error, so that calls can be written one after the other. */
class Context {
 public:
  Context(const std::string& type, const std::string& subject)
      : name_(subject.empty() ? type : type + " " + subject), fd_(::fsopen(type.c_str(), FSOPEN_CLOEXEC)) {
    if (!fd_.valid()) fail("fsopen " + type);
  }

  Context& string(const char* key, const std::string& value) {
    if (!ok()) return *this;
    if (value.size() > kLongestValue) {
      errno = ENAMETOOLONG;
      return fail(std::string(key) + "=" + value);
    }
    if (::fsconfig(fd_.get(), FSCONFIG_SET_STRING, key, value.c_str(), 0) < 0) fail(std::string(key) + "=" + value);
    return *this;
  }

  Context& flag(const char* key, bool set = true) {
    if (ok() && set && ::fsconfig(fd_.get(), FSCONFIG_SET_FLAG, key, nullptr, 0) < 0) fail(key);
    return *this;
  }

  /** Short and without a character that the filesystem would take for its own syntax, whatever the path is. */
  std::string shortName(const std::string& path, bool plain) {
    if (!ok() || (plain && path.size() <= kLongestValue)) return path;
    Fd fd(::open(path.c_str(), O_PATH | O_CLOEXEC));
    if (!fd.valid()) {
      fail("open " + path);
      return path;
    }
    std::string name = "/proc/self/fd/" + std::to_string(fd.get());
    held_.push_back(std::move(fd));
    return name;
  }

  MountError mount(unsigned attributes, Fd& out) {
    if (ok() && ::fsconfig(fd_.get(), FSCONFIG_CMD_CREATE, nullptr, nullptr, 0) < 0) {
      fail("mount " + name_);
    }
    if (ok()) {
      out.reset(::fsmount(fd_.get(), FSMOUNT_CLOEXEC, attributes));
      if (!out.valid()) fail("fsmount " + name_);
    }
    return error_;
  }

 private:
  bool ok() const { return error_.err == 0; }

  Context& fail(const std::string& what) {
    error_.err = errno;
    error_.what = what;
    if (fd_.valid()) error_.log = readLog();
    return *this;
  }

  /** One message per read(2), each with a letter for its level: "e erofs: …". */
  std::string readLog() {
    std::string log;
    char line[1024];
    for (ssize_t size; (size = ::read(fd_.get(), line, sizeof line)) > 0;) {
      const size_t skip = size > 2 && line[1] == ' ' ? 2 : 0;
      if (!log.empty()) log += "; ";
      log.append(line + skip, static_cast<size_t>(size) - skip);
      while (!log.empty() && log.back() == '\n') log.pop_back();
    }
    return log;
  }

  std::string name_;
  MountError error_;
  Fd fd_;
  std::vector<Fd> held_;
};

bool plainForOverlay(const std::string& path) { return path.find_first_of(":,\\") == std::string::npos; }

unsigned attributesOf(bool readOnly, bool noSuidDev) {
  return (readOnly ? MOUNT_ATTR_RDONLY : 0u) | (noSuidDev ? MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV : 0u);
}

MountError last(const std::string& what) { return MountError{errno, what, {}}; }

}  // namespace

MountError fuseMount(const FuseMountOptions& options, Fd& out) {
  Context context("fuse", "");
  context.string("source", "peel")
      .string("subtype", "peel")
      .string("fd", std::to_string(options.fd))
      .string("rootmode", "40000")
      .string("user_id", std::to_string(::geteuid()))
      .string("group_id", std::to_string(::getegid()))
      // Without it, whoever may enter the mount may read every file of it.
      .flag("default_permissions")
      .flag("allow_other", options.allowOther)
      .flag("ro", options.readOnly);
  return context.mount(attributesOf(options.readOnly, true), out);
}

MountError erofsMount(const ErofsMountOptions& options, Fd& out) {
  Context context("erofs", options.source);
  context.string("source", context.shortName(options.source, true)).flag("ro");
  for (const std::string& device : options.devices) {
    context.string("device", context.shortName(device, true));
  }
  context.flag("directio", options.directIo);
  return context.mount(attributesOf(true, options.noSuidDev), out);
}

MountError overlayMount(const OverlayMountOptions& options, Fd& out) {
  Context context("overlay", "");
  context.string("source", "peel");
  std::vector<std::string> names;
  std::string lower;
  for (const std::string& path : options.lower) {
    names.push_back(context.shortName(path, plainForOverlay(path)));
    lower += (lower.empty() ? "" : ":") + names.back();
  }
  if (lower.size() <= kLongestValue) {
    context.string("lowerdir", lower);
  } else {
    // One at a time: Linux 6.5 and newer.
    for (const std::string& name : names) context.string("lowerdir+", name);
  }
  if (!options.upper.empty()) {
    context.string("upperdir", context.shortName(options.upper, plainForOverlay(options.upper)))
        .string("workdir", context.shortName(options.work, plainForOverlay(options.work)));
  }
  return context.mount(attributesOf(options.upper.empty(), options.noSuidDev), out);
}

MountError attachMount(int mountFd, const std::string& target) {
  if (::move_mount(mountFd, "", AT_FDCWD, target.c_str(), MOVE_MOUNT_F_EMPTY_PATH) < 0) {
    return last("move_mount " + target);
  }
  return {};
}

// The last unmount of a filesystem waits for its reads, also when it is killed, and those may wait for this process: a child that has
// nothing open waits alone, so that the end of this process ends the connection, and with it the reads.
MountError unmount(const std::string& target, bool detach) {
  const char* const path = target.c_str();
  const int flags = UMOUNT_NOFOLLOW | (detach ? MNT_DETACH : 0);
  const pid_t child = ::fork();
  if (child < 0) return last("fork");
  if (child == 0) {
    // Only what is safe among threads that are not there any more.
    if (::close_range(0, ~0U, 0) < 0 && errno != ENOSYS) ::_exit(errno);
    ::_exit(::umount2(path, flags) < 0 ? errno : 0);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0) {
    if (errno != EINTR) return last("waitpid");
  }
  errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
  if (errno != 0) return last("umount " + target);
  return {};
}

}  // namespace peel
