// Which request goes where, and what is answered to those that a read-only filesystem does not serve.
#include <errno.h>

#include "fuse/reply.hpp"
#include "fuse/session.hpp"

namespace peel::fuse {

/** False: the connection is over. */
bool Session::handle(const Request& request, std::shared_ptr<PendingRead>& spare) {
  switch (request.opcode()) {
    case Opcode::kLookup: lookup(request); return true;
    case Opcode::kGetattr: getattr(request); return true;
    case Opcode::kRead: read(request, spare); return true;
    case Opcode::kReaddir: readdir(request, false); return true;
    case Opcode::kReaddirplus: readdir(request, true); return true;
    case Opcode::kReadlink: readlink(request); return true;
    case Opcode::kGetxattr: getxattr(request); return true;
    case Opcode::kListxattr: listxattr(request); return true;
    case Opcode::kStatfs: statfs(request); return true;
    case Opcode::kOpen: open(request); return true;
    case Opcode::kLseek: lseek(request); return true;
    case Opcode::kInterrupt: interrupt(request); return true;
    case Opcode::kInit: init(request); return true;

    // Nodes are positions in an image: there is nothing to forget, and the kernel expects no answer.
    case Opcode::kForget:
    case Opcode::kBatchForget: return true;

    case Opcode::kRelease:
    case Opcode::kReleasedir: replyError(fd(), request.unique(), 0); return true;

    case Opcode::kDestroy:
      replyError(fd(), request.unique(), 0);
      endWith("unmounted");
      return false;

    case Opcode::kSetattr:
    case Opcode::kSymlink:
    case Opcode::kMknod:
    case Opcode::kMkdir:
    case Opcode::kUnlink:
    case Opcode::kRmdir:
    case Opcode::kRename:
    case Opcode::kRename2:
    case Opcode::kLink:
    case Opcode::kWrite:
    case Opcode::kSetxattr:
    case Opcode::kRemovexattr:
    case Opcode::kCreate:
    case Opcode::kTmpfile:
    case Opcode::kFallocate: replyError(fd(), request.unique(), EROFS); return true;

    // Answered once each: the kernel then does OPENDIR, FLUSH, ACCESS and STATX by itself and never asks again.
    default: replyError(fd(), request.unique(), ENOSYS); return true;
  }
}

void Session::fail(const Request& request, int err) {
  if (err == EIO || err == EUCLEAN || err == EPROTO) report(request.opcode(), request.node(), 0, err);
  replyError(fd(), request.unique(), err);
}

}  // namespace peel::fuse
