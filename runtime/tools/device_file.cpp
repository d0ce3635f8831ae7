// The figures of a device, as rwkv-edge profile writes them. Read as events: the values of the
// outermost object are all that is needed, and a tree of values would need a larger program.
#include <array>
#include <cmath>
#include <nlohmann/json.hpp>

#include "formats/base/file.h"
#include "runtime/tools/commands.h"

namespace rwkv::edge {
namespace {

constexpr uint64_t kMostBytes = 1 << 20;

class DeviceEvents final : public nlohmann::json_sax<nlohmann::json> {
 public:
  double read_bytes_per_second = 0;
  double compute_seconds = 0;
  double threads = 0;
  std::array<double, 9> seconds_by_bits = {};

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(int64_t value) override { return number(static_cast<double>(value)); }
  bool number_unsigned(uint64_t value) override { return number(static_cast<double>(value)); }
  bool number_float(double value, const std::string&) override { return number(value); }
  bool string(std::string&) override { return true; }
  bool binary(nlohmann::json::binary_t&) override { return true; }
  bool start_object(size_t) override { return enter(); }
  bool end_object() override { return leave(); }
  bool start_array(size_t) override { return enter(); }
  bool end_array() override { return leave(); }
  bool parse_error(size_t, const std::string&, const nlohmann::detail::exception&) override {
    return false;
  }
  bool key(std::string& name) override {
    if (depth_ == 1) {
      has_bits_next_ = name == "seconds_by_bits";
    }
    const bool is_bits = name.size() == 1 && name[0] >= '1' && name[0] <= '8';
    wanted_ = depth_ == 2 && has_bits_next_ && is_bits
                  ? &seconds_by_bits[static_cast<size_t>(name[0] - '0')]
              : depth_ != 1                     ? nullptr
              : name == "read_bytes_per_second" ? &read_bytes_per_second
              : name == "compute_seconds"       ? &compute_seconds
              : name == "threads"               ? &threads
                                                : nullptr;
    return true;
  }

 private:
  bool number(double value) {
    if (depth_ > 2 || !wanted_) {
      return true;
    }
    const bool is_first = *wanted_ == 0;
    *wanted_ = value;
    return is_first && std::isfinite(value) && value >= 0;
  }
  bool enter() {
    ++depth_;
    wanted_ = nullptr;
    return true;
  }
  bool leave() {
    --depth_;
    return true;
  }

  int64_t depth_ = 0;
  bool has_bits_next_ = false;  ///< the object that follows has seconds by bits
  double* wanted_ = nullptr;
};

}  // namespace

Result<DeviceSpeed> device_from(const std::string& path) {
  RWKV_ASSIGN(const std::string text, read_text_file(path, kMostBytes));
  DeviceEvents events;
  nlohmann::json_sax<nlohmann::json>* const sink = &events;  // as in safetensors_header.cpp
  const bool is_json = nlohmann::json::sax_parse(text.data(), text.data() + text.size(), sink);
  // Written so that a value that is no number is refused too.
  if (is_json && events.read_bytes_per_second >= 1 && events.read_bytes_per_second < 1e15 &&
      events.compute_seconds > 0 && events.compute_seconds < 1e9 && events.threads >= 1 &&
      events.threads <= 256) {
    return DeviceSpeed{events.read_bytes_per_second, events.compute_seconds,
                       static_cast<unsigned>(events.threads), events.seconds_by_bits};
  }
  return bad_input(
      "{}: expected read_bytes_per_second, compute_seconds and threads in an object of JSON; make "
      "the file with rwkv-edge profile",
      path);
}

}  // namespace rwkv::edge
