#pragma once
#include <cstdint>
#include <vector>

#include "tree/image.hpp"

namespace peel::erofs {

// Where the regular files of a tree lie: for each device (the first is number 1 of the image) bytes [start, end) of its
// stream, one pair for each run of a file, ascending and apart. What two files share belongs to the one that starts first.
// -EUCLEAN for what cannot be: an image whose files have more chunks than it has room for, or lie beyond 2^53.
int streamExtents(const Image& image, std::vector<std::vector<double>>& out);

}  // namespace peel::erofs
