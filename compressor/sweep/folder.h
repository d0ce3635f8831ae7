// The folder of a sweep: where its files are, and the state of each point. A point has its own
// folder and is finished when that contains a result.
#pragma once

#include <string>
#include <vector>

#include "compressor/sweep/files.h"
#include "formats/base/status.h"

namespace rwkv::press {

/// One point's files.
class PointFolder {
 public:
  PointFolder(const std::string& sweep, std::string id);

  const std::string& id() const { return id_; }
  const std::string& path() const { return path_; }
  std::string recipe() const { return path_ + "/recipe.yaml"; }
  /// What is given of the device, if anything is.
  std::string device() const { return path_ + "/device.yaml"; }
  std::string log() const { return path_ + "/log.txt"; }
  std::string model() const { return path_ + "/model.gguf"; }
  std::string result() const { return path_ + "/result.json"; }
  std::string speed() const { return path_ + "/speed.json"; }
  std::string error() const { return path_ + "/error.txt"; }
  std::string claim() const { return path_ + "/claim"; }
  std::string training() const { return path_ + "/train"; }

  bool is_done() const { return exists(result()); }
  bool has_failed() const { return !is_done() && exists(error()); }
  /// The message of a failed point, on one line.
  std::string message() const;
  /// Marks the point as failed.
  Status fail(const std::string& message) const;
  /// Removes everything except claims and training snapshots.
  void clear() const;
  /// Appends a line to the log.
  void note(const std::string& line) const;

 private:
  std::string id_;
  std::string path_;
};

class SweepFolder {
 public:
  explicit SweepFolder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string manifest() const { return path_ + "/sweep.json"; }
  std::string results_json() const { return path_ + "/results.json"; }
  std::string results_csv() const { return path_ + "/results.csv"; }
  std::string report() const { return path_ + "/report.html"; }
  std::string lock() const { return path_ + "/sweep.lock"; }
  std::string points() const { return path_ + "/points"; }
  std::string shared() const { return path_ + "/shared"; }
  /// Removes the files that points have in common, except for training logs.
  void clear_shared() const;
  PointFolder point(const std::string& id) const { return {path_, id}; }
  /// The existing folder of a point with this hash, or NUMBER-HASH if there is none.
  std::string id_for(size_t number, const std::string& hash) const;

 private:
  std::string path_;
};

}  // namespace rwkv::press
