// One function per shape of answer, so that a handler cannot answer LOOKUP with the body of a READ.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "fuse/abi.hpp"

namespace peel::fuse {

/**
 * Each returns 0 or the errno of the write. ENOENT is no error of ours: the request was interrupted or the connection
 * aborted while it was served, and nobody waits for the answer.
 */
int replyError(int fd, uint64_t unique, int err);  // err >= 0; 0 is the empty success
int replyEntry(int fd, uint64_t unique, const EntryOut& entry);
int replyAttr(int fd, uint64_t unique, const AttrOut& attr);
int replyInit(int fd, uint64_t unique, const InitOut& init);
int replyOpen(int fd, uint64_t unique, const OpenOut& open);
int replyStatfs(int fd, uint64_t unique, const Statfs& statfs);
int replyLseek(int fd, uint64_t unique, const LseekOut& lseek);
int replyXattrSize(int fd, uint64_t unique, uint32_t size);
/** Asks for all that was read and not answered. EINVAL of a kernel that does not know how. */
int notifyResend(int fd);
/** READ, READDIR, READLINK and the values of xattrs. */
int replyData(int fd, uint64_t unique, const void* data, size_t size);

}  // namespace peel::fuse
