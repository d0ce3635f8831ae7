#include "compressor/train/loss_log.h"

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "formats/base/file.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr const char* kHeader =
    "step,tokens,seconds,rate,loss,cross_entropy,divergence,block_match,gradient_norm,valid\n";
// More than a row has; a file with more bytes for each step is not read.
constexpr uint64_t kMaxRowBytes = 512;
constexpr uint64_t kMaxBytes = uint64_t{1} << 30;

Status write_file(const std::string& path, const std::string& text) {
  RWKV_ASSIGN(const auto out, OutputFile::create(path, OutputFile::Existing::Replace));
  RWKV_TRY(out->write(std::as_bytes(std::span(text.data(), text.size()))));
  return out->commit();
}

std::string to_line(const LossRow& row) {
  const std::string valid = row.valid < 0 ? "" : fmt::format("{:.6f}", row.valid);
  return fmt::format("{},{},{:.1f},{:.4g},{:.6f},{:.6f},{:.6f},{:.6f},{:.4f},{}\n", row.step,
                     row.tokens, row.seconds, row.rate, row.loss, row.cross_entropy, row.divergence,
                     row.block_match, row.gradient_norm, valid);
}

bool from_line(const std::string& line, LossRow& row) {
  unsigned long long step = 0;
  unsigned long long tokens = 0;
  const int n = std::sscanf(line.c_str(), "%llu,%llu,%lf,%lf,%lf,%lf,%lf,%lf,%lf,%lf", &step,
                            &tokens, &row.seconds, &row.rate, &row.loss, &row.cross_entropy,
                            &row.divergence, &row.block_match, &row.gradient_norm, &row.valid);
  row.step = step;
  row.tokens = tokens;
  return n >= 9;
}

}  // namespace

Result<LossLog> LossLog::open(const std::string& folder, uint64_t step) {
  LossLog log;
  log.folder_ = folder;
  const std::string path = (fs::path(folder) / "loss.csv").string();
  std::error_code ignored;
  if (step == 0 || !fs::exists(path, ignored)) {
    return log;
  }
  // The log is only looked at: one that is damaged is left out, whole or in part.
  const uint64_t most = std::min(kMaxBytes / kMaxRowBytes, step + 1) * kMaxRowBytes;
  const auto text = read_text_file(path, most);
  if (!text.ok()) {
    return log;
  }
  std::istringstream lines(text.value());
  std::string line;
  while (std::getline(lines, line)) {
    LossRow row;
    const uint64_t last = log.rows_.empty() ? 0 : log.rows_.back().step;
    if (from_line(line, row) && row.step > last && row.step <= step) {
      log.rows_.push_back(row);
    }
  }
  return log;
}

Status LossLog::save() const {
  std::string csv = kHeader;
  for (const LossRow& row : rows_) {
    csv += to_line(row);
  }
  RWKV_TRY(write_file((fs::path(folder_) / "loss.csv").string(), csv));
  return write_file((fs::path(folder_) / "loss.svg").string(), plot_loss(rows_));
}

}  // namespace rwkv::press
