// Any bytes as a file of a sweep's folder that somebody sent: the manifest (first byte 'm'), the
// result of a point ('r') or its speed (any other). Refused, or table, page and results of it can
// be made and read again.
#include <sys/mman.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <string_view>

#include "compressor/report/report.h"
#include "compressor/sweep/received.h"
#include "compressor/sweep/results.h"
#include "tests/fuzz/seed_models.h"

using namespace rwkv;

namespace {

namespace fs = std::filesystem;

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

// A file in memory under a name of a folder.
class File {
 public:
  explicit File(const std::string& name) : fd_(memfd_create("fuzz", 0)) {
    require(fd_ >= 0);
    fs::create_directories(fs::path(name).parent_path());
    fs::create_symlink("/proc/self/fd/" + std::to_string(fd_), name);
  }
  ~File() { ::close(fd_); }
  File(const File&) = delete;
  File& operator=(const File&) = delete;
  void write(std::string_view text) const {
    require(ftruncate(fd_, 0) == 0 &&
            pwrite(fd_, text.data(), text.size(), 0) == static_cast<ssize_t>(text.size()));
  }

 private:
  int fd_;
};

struct Folder {
  std::string path = [] {
    std::string name = (fs::temp_directory_path() / "rwkv-fuzz-XXXXXX").string();
    require(mkdtemp(name.data()) != nullptr);
    return name;
  }();
  press::SweepFolder sweep{path};
  press::PointFolder point = sweep.point(std::string(test::kSweepPoint));
  File manifest{sweep.manifest()};
  File result{point.result()};
  File speed{point.speed()};

  ~Folder() {
    std::error_code ignored;
    fs::remove_all(path, ignored);
  }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const Folder folder;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  const char kind = text.empty() ? ' ' : text[0];
  const std::string_view rest = text.substr(text.empty() ? 0 : 1);
  folder.manifest.write(kind == 'm' ? rest : test::kSweepManifest);
  folder.result.write(kind == 'r' ? rest : test::kSweepResult);
  folder.speed.write(kind == 'm' || kind == 'r' ? test::kSweepSpeed : rest);
  const auto results = press::collect_results(folder.sweep);
  if (!results.ok()) {
    return 0;
  }
  require(press::parse_ordered_json(press::json_text(results.value())).ok());
  (void)press::results_to_csv(results.value());
  (void)press::results_table(results.value());
  require(press::render_report(results.value()).ok());
  return 0;
}
