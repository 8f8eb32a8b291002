// Runs a target once for each of its seeds and of the files that were kept in test/corpus. With a folder as argument: writes the seeds there.
#include <dirent.h>

#include <algorithm>
#include <fstream>
#include <iterator>
#include <string>

#include "fuzz/target.hpp"

namespace {

std::vector<std::string> filesOf(const std::string& folder) {
  std::vector<std::string> paths;
  DIR* const dir = ::opendir(folder.c_str());
  if (dir == nullptr) check::failed(__FILE__, __LINE__, "cannot read " + folder);
  while (const dirent* const entry = ::readdir(dir))
    if (entry->d_name[0] != '.') paths.push_back(folder + "/" + entry->d_name);
  ::closedir(dir);
  std::sort(paths.begin(), paths.end());
  return paths;
}

void writeSeeds(const std::string& folder) {
  size_t number = 0;
  for (const fuzz::Bytes& seed : fuzz::seeds()) {
    std::ofstream out(folder + "/seed-" + std::to_string(number++), std::ios::binary);
    out.write(reinterpret_cast<const char*>(seed.data()), static_cast<std::streamsize>(seed.size()));
    if (!out.flush()) check::failed(__FILE__, __LINE__, "cannot write to " + folder);
  }
}

fuzz::Bytes contentOf(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  if (!in) check::failed(__FILE__, __LINE__, "cannot read " + path);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

}  // namespace

int main(int count, char** args) {
  if (count > 1) {
    writeSeeds(args[1]);
    return 0;
  }
  const std::string program = args[0];
  const std::string target = program.substr(program.find_last_of('/') + 1 + std::strlen("replay_"));
  std::vector<fuzz::Bytes> inputs = fuzz::seeds();
  for (const std::string& path : filesOf("../test/corpus/" + target)) inputs.push_back(contentOf(path));
  inputs.emplace_back();
  for (fuzz::Bytes& input : inputs) {
    input.shrink_to_fit();
    LLVMFuzzerTestOneInput(input.data(), input.size());
  }
  std::printf("%zu tests\n", inputs.size());
}
