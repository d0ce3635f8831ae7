#include "compressor/sweep/folder.h"

#include <algorithm>
#include <filesystem>
#include <fstream>

#include "compressor/sweep/received.h"
#include "formats/base/file.h"
#include "formats/base/printable.h"

namespace rwkv::press {

namespace fs = std::filesystem;

namespace {

constexpr uint64_t kMaxMessageBytes = uint64_t{1} << 20;

}  // namespace

PointFolder::PointFolder(const std::string& sweep, std::string id)
    : id_(std::move(id)), path_(sweep + "/points/" + id_) {}

std::string PointFolder::message() const {
  auto text = read_text_file(error(), kMaxMessageBytes);
  std::string message = text.ok() ? text.take() : text.status().message();
  while (message.ends_with('\n')) {
    message.pop_back();
  }
  std::replace(message.begin(), message.end(), '\n', ' ');
  return message;
}

Status PointFolder::fail(const std::string& message) const {
  remove_file(model());
  return write_whole(error(), message + "\n");
}

void PointFolder::clear() const {
  std::error_code ignored;
  std::vector<fs::path> old;
  for (const auto& entry : fs::directory_iterator(path_, ignored)) {
    const std::string name = entry.path().filename().string();
    if (!name.starts_with("claim") && entry.path() != fs::path(training())) {
      old.push_back(entry.path());
    }
  }
  for (const fs::path& path : old) {
    fs::remove(path, ignored);
  }
}

void PointFolder::note(const std::string& line) const {
  std::ofstream(log(), std::ios::app) << printable(line, line.size()) << '\n';
}

void SweepFolder::clear_shared() const {
  std::vector<fs::path> old;
  std::error_code ignored;
  for (const auto& entry : fs::recursive_directory_iterator(shared(), ignored)) {
    const std::string name = entry.path().filename().string();
    if (entry.is_regular_file(ignored) && name != "loss.csv" && name != "loss.svg") {
      old.push_back(entry.path());
    }
  }
  for (const fs::path& path : old) {
    fs::remove(path, ignored);
  }
}

std::string SweepFolder::id_for(size_t number, const std::string& hash) const {
  std::vector<std::string> found;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(points(), ignored)) {
    const std::string name = entry.path().filename().string();
    if (is_point_id(name) && name.ends_with("-" + hash)) {
      found.push_back(name);
    }
  }
  return found.empty() ? fmt::format("{:04}-{}", number, hash)
                       : *std::min_element(found.begin(), found.end());
}

}  // namespace rwkv::press
