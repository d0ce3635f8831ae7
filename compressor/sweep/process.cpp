#include "compressor/sweep/process.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <fstream>
#include <sstream>

namespace rwkv::press {

std::string this_host() {
  std::array<char, 256> name{};
  if (::gethostname(name.data(), name.size() - 1) != 0) {
    name[0] = '?';
  }
  std::array<char, 64> numbering{};
  if (::readlink("/proc/self/ns/pid", numbering.data(), numbering.size() - 1) < 0) {
    numbering[0] = '?';
  }
  return fmt::format("{}/{}", name.data(), numbering.data());
}

std::string start_of(int64_t pid) {
  std::ifstream file(fmt::format("/proc/{}/stat", pid));
  std::string text;
  std::getline(file, text);
  // The second field is a name in brackets that may hold anything; the start is the 22nd.
  const size_t behind_name = text.rfind(')');
  if (behind_name == std::string::npos) {
    return {};
  }
  std::istringstream fields(text.substr(behind_name + 1));
  constexpr int kFieldsBetween = 18;
  std::string field;
  fields >> field;  // the third: its state
  if (field == "Z" || field == "X") {
    return {};
  }
  for (int i = 0; i <= kFieldsBetween; ++i) {
    fields >> field;
  }
  return field;
}

}  // namespace rwkv::press
