#pragma once
#include <string>

#include "sys/fd.hpp"

namespace peel {

// The flock on <dir>/lock. Users of a layer hold it shared for as long as they may read its files; whoever wants to
// evict or remove holds it exclusively. Because removal renames the directory away, having the lock counts only when
// the locked inode still is the one at that path.
class LayerLock {
 public:
  // Makes the directory (0700, not its parents) and the lock file where missing. 0 or -errno.
  int takeShared(const std::string& dir);
  // -EAGAIN when somebody uses the layer; -ENOENT when there is no such directory.
  int tryExclusive(const std::string& dir);
  void drop() { fd_.reset(); }

  // Alone among the shared holders, for the short while in which one of them lays out the files: an
  // open-file-description lock on the same file, which does not meet the flock. 0 or -errno.
  int beginLayout();
  void endLayout();

 private:
  Fd fd_;
};

// Removes a layer that nobody uses: its directory and its live bits. 0 removed or not there, -EAGAIN in use, -errno.
int tryRemoveLayer(const std::string& dir, const std::string& livePath);

}  // namespace peel
