#include <errno.h>

#include <memory>

#include "check.hpp"
#include "erofs_fixture.hpp"
#include "tree/stream_extents.hpp"

using namespace peel::erofs;
namespace fixture = erofs_fixture;

namespace {

int extentsOf(const std::vector<uint8_t>& bytes, std::vector<std::vector<double>>& out) {
  std::unique_ptr<Image> image;
  if (int err = Image::attach(bytes.data(), bytes.size(), image)) return err;
  return streamExtents(*image, out);
}

}  // namespace

TEST(extents_of_files_are_by_device) {
  std::vector<std::vector<double>> out;
  CHECK_EQ(extentsOf(fixture::image(), out), 0);
  CHECK_EQ(out.size(), 2u);
  // The hole is nobody's, and the last chunk ends with the file.
  CHECK(out[0] == (std::vector<double>{1024, 1536}));
  CHECK(out[1] == (std::vector<double>{0, 1300 - 1024}));
}

TEST(a_file_with_more_chunks_than_the_image_has_room_for_is_refused) {
  auto bytes = fixture::image();
  InodeExtended inode;
  std::memcpy(&inode, bytes.data() + fixture::kFile * kSlotSize, sizeof inode);
  inode.size = uint64_t{1} << 62;
  std::memcpy(bytes.data() + fixture::kFile * kSlotSize, &inode, sizeof inode);
  std::vector<std::vector<double>> out;
  CHECK_EQ(extentsOf(bytes, out), -EUCLEAN);
}

TEST(a_directory_in_itself_is_walked_once) {
  auto bytes = fixture::image();
  // Every inode that the root names becomes the root, or what is damaged anyhow.
  for (const uint64_t nid : {fixture::kMany, fixture::kTagged, fixture::kCompact}) {
    std::memcpy(bytes.data() + nid * kSlotSize, bytes.data() + fixture::kRoot * kSlotSize, 64);
  }
  std::vector<std::vector<double>> out;
  extentsOf(bytes, out);
}

TEST(no_damage_of_one_byte_does_harm) {
  const auto whole = fixture::image();
  for (size_t at = 1024; at < whole.size(); at += at < 8192 ? 1 : 7) {
    for (const uint8_t flip : {0x01, 0x80, 0xff}) {
      auto bytes = whole;
      bytes[at] ^= flip;
      std::vector<std::vector<double>> out;
      if (extentsOf(bytes, out) != 0) continue;
      for (const auto& device : out) {
        CHECK_EQ(device.size() % 2, 0u);
        for (size_t i = 1; i < device.size(); ++i) CHECK(device[i] > device[i - 1] || (i % 2 == 0 && device[i] == device[i - 1]));
      }
    }
  }
}

TEST_MAIN
