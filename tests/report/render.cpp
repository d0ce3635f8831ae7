// render_report RESULTS.json OUT.html: what the browser test opens.
#include <cstdio>
#include <nlohmann/json.hpp>

#include "compressor/report/report.h"
#include "formats/base/file.h"

namespace {

rwkv::Status render(const char* results, const char* out) {
  constexpr uint64_t kMaxBytes = uint64_t{1} << 30;
  RWKV_ASSIGN(const std::string text, rwkv::read_text_file(results, kMaxBytes));
  const auto json = nlohmann::ordered_json::parse(text, nullptr, false);
  if (json.is_discarded()) {
    return rwkv::bad_input("{}: is not JSON", results);
  }
  return rwkv::press::write_report(json, out);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::fputs("usage: render_report RESULTS.json OUT.html\n", stderr);
    return 2;
  }
  const rwkv::Status status = render(argv[1], argv[2]);
  if (!status.ok()) {
    std::fprintf(stderr, "render_report: error: %s\n", status.message().c_str());
  }
  return static_cast<int>(status.code());
}
