// Mounts by the mount API with file descriptors (fsopen, fsconfig, fsmount, move_mount): no 4 KiB page of options, no
// window in which a half-made mount is visible, and the filesystem's own words when it refuses.
//
// All of these may wait for the disk or for a FUSE server: never call them on the JavaScript thread.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "sys/fd.hpp"

namespace peel {

struct MountError {
  int err = 0;  // 0: no error; else a positive errno
  std::string what;  // the call and the thing it was about
  std::string log;   // what the kernel's filesystem said, may be empty
};

struct FuseMountOptions {
  int fd;  // of /dev/fuse
  bool allowOther;
  /** Normal for a person's mount; a directory of layer streams needs neither. */
  bool readOnly = true;
};

/** A FUSE mount that is attached nowhere yet; nosuid and nodev always. */
MountError fuseMount(const FuseMountOptions& options, Fd& out);

struct ErofsMountOptions {
  std::string source;
  std::vector<std::string> devices;
  bool directIo;
  bool noSuidDev;
};
MountError erofsMount(const ErofsMountOptions& options, Fd& out);

struct OverlayMountOptions {
  std::vector<std::string> lower;  // topmost first
  std::string upper;  // empty: read-only
  std::string work;
  bool noSuidDev;
};
MountError overlayMount(const OverlayMountOptions& options, Fd& out);

/** Attaches a mount made above. `target` is not followed when it is a symlink. */
MountError attachMount(int mountFd, const std::string& target);
MountError unmount(const std::string& target, bool detach);

}  // namespace peel
