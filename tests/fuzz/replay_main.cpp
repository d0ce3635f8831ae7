// A main for fuzz targets where there is no libFuzzer: runs the target over the files given, or,
// without any, over its seed corpus and a few hundred seeded mutations of each seed. It finds
// little that is new, but keeps the targets compiling and working.
#include <fcntl.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

using Bytes = std::vector<uint8_t>;
using Random = std::mt19937_64;

constexpr int kMutations = 400;
constexpr size_t kMaxBytes = size_t{1} << 20;
constexpr const char* kFindingName = "fuzz-finding.bin";

// What the target is looking at, for the signal handler.
const uint8_t* current_data = nullptr;
size_t current_size = 0;

// Keeps the input that crashed, in the working directory.
extern "C" void save_finding(int signal_number) {
  const int fd = ::open(kFindingName, O_WRONLY | O_CREAT | O_TRUNC, 0644);
  if (fd >= 0 && ::write(fd, current_data, current_size) == static_cast<ssize_t>(current_size)) {
    constexpr char kText[] = "the input that crashed is in fuzz-finding.bin\n";
    (void)!::write(STDERR_FILENO, kText, sizeof(kText) - 1);
  }
  ::signal(signal_number, SIG_DFL);
  ::raise(signal_number);
}

// In memory of just its size, so that the address sanitizer detects reads past the end.
void run(const Bytes& input) {
  const Bytes exact(input.begin(), input.end());
  current_data = exact.data();
  current_size = exact.size();
  LLVMFuzzerTestOneInput(exact.data(), exact.size());
}

Bytes read_file(const std::filesystem::path& path) {
  std::ifstream in(path, std::ios::binary);
  return Bytes(std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>());
}

// A little-endian number that checks are likely to forget, written over what is at `at`.
void overwrite_number(Bytes& bytes, size_t at, Random& random) {
  constexpr std::array<uint64_t, 10> kNumbers = {
      0, 1, 0x7f, 0xff, 0xffff, 0x7fffffff, 0xffffffff, ~0ull >> 1u, ~0ull - 7ull, ~0ull};
  const uint64_t number = kNumbers[random() % kNumbers.size()];
  const size_t width = size_t{1} << (random() % 4);
  for (size_t i = 0; i < width && at + i < bytes.size(); ++i) {
    bytes[at + i] = static_cast<uint8_t>(number >> (8 * i));
  }
}

void mutate_once(Bytes& bytes, Random& random) {
  const size_t at = bytes.empty() ? 0 : random() % bytes.size();
  const size_t n = std::min<size_t>(random() % 32 + 1, bytes.size() - at);
  const auto first = bytes.begin() + static_cast<ptrdiff_t>(at);
  switch (bytes.empty() ? 5 : random() % 7) {
    case 0:
      bytes[at] ^= static_cast<uint8_t>(1u << (random() % 8));
      break;
    case 1:
      bytes[at] = static_cast<uint8_t>(random());
      break;
    case 2:
      overwrite_number(bytes, at, random);
      break;
    case 3:
      bytes.erase(first, first + static_cast<ptrdiff_t>(n));
      break;
    case 4: {
      const Bytes copy(first, first + static_cast<ptrdiff_t>(n));
      const size_t to = random() % (bytes.size() + 1);
      bytes.insert(bytes.begin() + static_cast<ptrdiff_t>(to), copy.begin(), copy.end());
      break;
    }
    case 5:
      bytes.insert(first, static_cast<uint8_t>(random()));
      break;
    default:
      if (random() % 4 == 0) {
        bytes.resize(at);
      }
      break;
  }
}

void run_mutations(const Bytes& seed, uint64_t number) {
  Random random(number);
  for (int i = 0; i < kMutations; ++i) {
    Bytes bytes = seed;
    for (uint64_t edits = random() % 4 + 1; edits > 0; --edits) {
      mutate_once(bytes, random);
    }
    bytes.resize(std::min(bytes.size(), kMaxBytes));
    run(bytes);
  }
}

// In the order of their names, so that each run does the same.
std::vector<std::filesystem::path> corpus_files() {
  std::vector<std::filesystem::path> files;
  std::error_code missing;
  for (const auto& entry : std::filesystem::directory_iterator(RWKV_FUZZ_CORPUS, missing)) {
    files.push_back(entry.path());
  }
  std::sort(files.begin(), files.end());
  return files;
}

}  // namespace

int main(int argc, char** argv) {
  for (const int signal_number : {SIGABRT, SIGSEGV, SIGBUS, SIGFPE, SIGILL}) {
    ::signal(signal_number, save_finding);
  }
  for (int i = 1; i < argc; ++i) {
    run(read_file(argv[i]));
  }
  if (argc > 1) {
    return 0;
  }
  run({});
  run_mutations({}, 0);
  uint64_t number = 0;
  for (const std::filesystem::path& path : corpus_files()) {
    const Bytes seed = read_file(path);
    run(seed);
    run_mutations(seed, ++number);
  }
  std::printf("%llu seeds, each with %d mutations\n", static_cast<unsigned long long>(number),
              kMutations);
  return number > 0 ? 0 : 1;
}
