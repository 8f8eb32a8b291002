#include <errno.h>

#include <memory>

#include "check.hpp"
#include "erofs_fixture.hpp"
#include "tree/image.hpp"

using namespace peel::erofs;
namespace fixture = erofs_fixture;

namespace {

std::unique_ptr<Image> attach(const std::vector<uint8_t>& bytes) {
  std::unique_ptr<Image> image;
  CHECK_EQ(Image::attach(bytes.data(), bytes.size(), image), 0);
  return image;
}

/** Touches everything that a server would, and returns how much of it there was. */
size_t walk(const Image& image, uint64_t nid, int depth, size_t& budget) {
  Inode inode;
  size_t seen = 1;
  if (budget == 0 || image.inode(nid, inode) != 0) return seen;
  --budget;
  image.xattrs(inode, [&](std::string_view prefix, std::string_view name, std::string_view value) {
    std::string_view again;
    image.getxattr(inode, std::string(prefix) + std::string(name), again);
    seen += value.empty() ? 0 : static_cast<size_t>(value[value.size() - 1] != 0);
    return true;
  });
  std::string_view target;
  if (inode.isSymlink() && image.readlink(inode, target) == 0) seen += target.size();
  if (inode.isRegular()) {
    uint64_t at = 0;
    for (int i = 0; i < 64 && at < inode.size; ++i) {
      Extent extent;
      if (image.extent(inode, at, inode.size, extent) != 0) break;
      CHECK(extent.length > 0);
      CHECK(extent.length <= inode.size - at);
      if (extent.device == 0) {
        const uint8_t* bytes = image.bytes(extent.at, extent.length);
        if (bytes != nullptr && extent.length > 0) seen += bytes[extent.length - 1] & 1;
      }
      at += extent.length;
    }
  }
  if (!inode.isDir()) return seen;
  std::vector<uint64_t> children;
  uint64_t before = 0;
  image.list(inode, 0, [&](const DirEntry& entry) {
    CHECK(entry.next > before);
    before = entry.next;
    uint64_t found;
    uint8_t type;
    image.lookup(inode, entry.name, found, type);
    if (entry.name != "." && entry.name != "..") children.push_back(entry.nid);
    return children.size() < 256;
  });
  if (depth > 0) {
    for (const uint64_t child : children) seen += walk(image, child, depth - 1, budget);
  }
  return seen;
}

}  // namespace

TEST(inodes_have_all_their_fields) {
  const auto bytes = fixture::image();
  const auto image = attach(bytes);
  CHECK_EQ(image->devices(), 2u);
  Inode inode;
  CHECK_EQ(image->inode(fixture::kFile, inode), 0);
  CHECK(inode.isRegular());
  CHECK_EQ(inode.size, 1300u);
  CHECK_EQ(inode.uid, 3000000u);
  CHECK_EQ(inode.mtime, -5);
  CHECK_EQ(inode.mtimeNs, 999999999u);
  CHECK_EQ(image->inode(fixture::kDevice, inode), 0);
  CHECK(inode.isDevice());
  CHECK_EQ(inode.u, 0x103u);
  CHECK_EQ(image->inode(uint64_t{1} << 32, inode), -EUCLEAN);
  CHECK_EQ(image->inode(100000, inode), -EUCLEAN);
}

TEST(lookup_finds_every_name_and_no_other) {
  const auto bytes = fixture::image();
  const auto image = attach(bytes);
  Inode many;
  CHECK_EQ(image->inode(fixture::kMany, many), 0);
  uint64_t nid;
  uint8_t type;
  for (size_t i = 0; i < fixture::kManyNames; ++i) {
    CHECK_EQ(image->lookup(many, fixture::manyName(i), nid, type), 0);
    CHECK_EQ(nid, fixture::kFile);
    CHECK_EQ(type, 8);
    CHECK_EQ(image->lookup(many, fixture::manyName(i) + "x", nid, type), -ENOENT);
  }
  for (const char* name : {"!", "a", "name", "name-0100", "zzz", "name-"}) {
    CHECK_EQ(image->lookup(many, name, nid, type), -ENOENT);
  }
  CHECK_EQ(image->lookup(many, "..", nid, type), 0);
  CHECK_EQ(nid, fixture::kRoot);
  Inode file;
  CHECK_EQ(image->inode(fixture::kFile, file), 0);
  CHECK_EQ(image->lookup(file, "a", nid, type), -ENOTDIR);
}

TEST(a_listing_goes_on_from_every_position) {
  const auto bytes = fixture::image();
  const auto image = attach(bytes);
  Inode many;
  CHECK_EQ(image->inode(fixture::kMany, many), 0);
  std::vector<std::string> names;
  uint64_t at = 0;
  for (;;) {
    const uint64_t before = at;
    CHECK_EQ(image->list(many, at, [&](const DirEntry& entry) {
      names.emplace_back(entry.name);
      at = entry.next;
      return false;
    }), 0);
    if (at == before) break;
  }
  CHECK_EQ(names.size(), fixture::kManyNames + 2);
  CHECK(names.back() == fixture::manyName(fixture::kManyNames - 1));
  CHECK_EQ(image->list(many, 5, [](const DirEntry&) { return true; }), -EINVAL);
}

TEST(extents_name_the_device_the_hole_or_the_image) {
  const auto bytes = fixture::image();
  const auto image = attach(bytes);
  Inode inode;
  Extent extent;
  CHECK_EQ(image->inode(fixture::kFile, inode), 0);
  CHECK_EQ(image->extent(inode, 10, 4096, extent), 0);
  CHECK_EQ(extent.device, 1);
  CHECK_EQ(extent.at, 1034u);
  CHECK_EQ(extent.length, 502u);
  CHECK_EQ(image->extent(inode, 512, 4096, extent), 0);
  CHECK_EQ(extent.device, -1);
  CHECK_EQ(extent.length, 512u);
  CHECK_EQ(image->extent(inode, 1024, 4096, extent), 0);
  CHECK_EQ(extent.device, 2);
  CHECK_EQ(extent.length, 276u);
  CHECK_EQ(image->extent(inode, 1300, 1, extent), -EINVAL);
  CHECK_EQ(image->inode(fixture::kCompact, inode), 0);
  CHECK_EQ(image->extent(inode, 599, 100, extent), 0);
  CHECK_EQ(extent.device, 0);
  CHECK_EQ(extent.at, 13u * 512 + 599);
}

TEST(links_and_xattrs_come_out_of_the_image) {
  const auto bytes = fixture::image();
  const auto image = attach(bytes);
  Inode inode;
  std::string_view text;
  CHECK_EQ(image->inode(fixture::kLink, inode), 0);
  CHECK_EQ(image->readlink(inode, text), 0);
  CHECK(text == "target");
  CHECK_EQ(image->getxattr(inode, "user.a", text), -ENODATA);
  CHECK_EQ(image->inode(fixture::kTagged, inode), 0);
  CHECK_EQ(image->readlink(inode, text), -EINVAL);
  CHECK_EQ(image->getxattr(inode, "user.a", text), 0);
  CHECK(text == "value");
  CHECK_EQ(image->getxattr(inode, "security.capability", text), 0);
  CHECK(text == "abc");
  CHECK_EQ(image->getxattr(inode, "user.", text), -ENODATA);
}

TEST(a_chunk_of_a_device_that_is_not_there_is_refused) {
  auto bytes = fixture::image();
  bytes[fixture::kFile * 32 + 64 + 2] = 3;
  const auto image = attach(bytes);
  Inode inode;
  Extent extent;
  CHECK_EQ(image->inode(fixture::kFile, inode), 0);
  CHECK_EQ(image->extent(inode, 0, 1, extent), -EUCLEAN);
}

TEST(every_cut_image_is_refused_or_readable) {
  const auto bytes = fixture::image();
  for (size_t size = 0; size < bytes.size(); size += 7) {
    const std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(size));
    std::unique_ptr<Image> image;
    if (Image::attach(cut.data(), cut.size(), image) != 0) continue;
    size_t budget = 1000;
    walk(*image, image->rootNid(), 3, budget);
  }
}

TEST(damaged_images_never_reach_outside) {
  const auto good = fixture::image();
  check::Random random{42};
  const auto rounds = static_cast<size_t>(20000 * check::scale()) + 100;
  size_t readable = 0;
  for (size_t round = 0; round < rounds; ++round) {
    auto bytes = good;
    for (uint64_t changes = 1 + random.below(6); changes > 0; --changes) {
      const uint64_t at = kSuperOffset + random.below(bytes.size() - kSuperOffset);
      switch (random.below(4)) {
        case 0: bytes[at] = static_cast<uint8_t>(random.next()); break;
        case 1: bytes[at] ^= static_cast<uint8_t>(1u << random.below(8)); break;
        case 2: bytes[at] = 0xff; break;
        default:
          for (uint64_t i = at; i < std::min<uint64_t>(at + 8, bytes.size()); ++i) bytes[i] = 0xff;
      }
    }
    std::unique_ptr<Image> image;
    if (Image::attach(bytes.data(), bytes.size(), image) != 0) continue;
    ++readable;
    size_t budget = 300;
    walk(*image, image->rootNid(), 3, budget);
    walk(*image, random.below(400), 1, budget);
  }
  CHECK(readable > rounds / 4);
}

TEST_MAIN
