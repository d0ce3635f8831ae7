#include "compressor/pipeline/kept_stages.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "compressor/checkpoint/edited_state.h"
#include "compressor/checkpoint/sealed_file.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/plan_state.h"
#include "formats/base/leftovers.h"
#include "formats/base/printable.h"
#include "formats/base/strict_json.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::json;

constexpr int kFormat = 2;
constexpr uint64_t kMaxStateBytes = uint64_t{64} << 20;
constexpr const char* kState = "state";
constexpr const char* kPrefix = "after-stage-";
constexpr const char* kSuffix = ".safetensors";
constexpr size_t kMostStages = 64;

std::string data_path(const std::string& folder) {
  return (fs::path(folder) / "stages.data").string();
}

std::string state_path(const std::string& folder, size_t done) {
  return (fs::path(folder) / fmt::format("{}{}{}", kPrefix, done, kSuffix)).string();
}

// The numbers of stages after which there is a state, the most first.
std::vector<size_t> states_in(const std::string& folder) {
  std::vector<size_t> found;
  for (size_t done = kMostStages; done > 0; --done) {
    std::error_code ignored;
    if (fs::exists(fs::symlink_status(state_path(folder, done), ignored))) {
      found.push_back(done);
    }
  }
  return found;
}

Result<Json> read_state(const std::string& path) {
  RWKV_ASSIGN(const auto source, open_sealed(path));
  const std::optional<size_t> index = [&]() -> std::optional<size_t> {
    for (size_t i = 0; i < source->tensors().size(); ++i) {
      if (source->tensors()[i].name == kState && source->tensors()[i].dtype == DType::U8) {
        return i;
      }
    }
    return std::nullopt;
  }();
  if (!index || source->tensors()[*index].n_bytes() > kMaxStateBytes) {
    return bad_input("{}: expected the state of a conversion, found something else", path);
  }
  std::vector<std::byte> bytes;
  RWKV_TRY(source->read(*index, bytes));
  auto json = parse_strict_json({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  RWKV_TRY(json.status().in(path));
  return json;
}

// What nlohmann's at() and get() throw for a file that is sealed and yet not ours.
template <typename Function>
Status guarded(const std::string& path, const Function& function) {
  try {
    return function();
  } catch (const nlohmann::json::exception&) {
    return bad_input("{}: expected the state of a conversion, found other values", path);
  }
}

// How many stages from the first one on are the same, of a state's and the recipe's.
size_t common(const std::vector<std::string>& saved, const std::vector<std::string>& now) {
  const auto ends = std::mismatch(saved.begin(), saved.end(), now.begin(), now.end());
  return static_cast<size_t>(ends.first - saved.begin());
}

}  // namespace

ConversionIdentity identity_of(const Recipe& recipe, std::vector<std::string> inputs) {
  inputs.push_back(fmt::format("seed: {}", recipe.seed));
  ConversionIdentity identity{std::move(inputs), {}};
  for (const std::unique_ptr<Stage>& stage : recipe.stages) {
    YAML::Emitter out;
    stage->settings().emit(out);
    identity.stages.push_back(fmt::format("{}: {}", stage->name(), out.c_str()));
  }
  return identity;
}

Result<std::unique_ptr<KeptStages>> KeptStages::open(
    const std::string& folder, const ConversionIdentity& identity, bool resume,
    const std::function<void(const std::string& line)>& note) {
  std::error_code error;
  fs::create_directories(folder, error);
  if (error) {
    return failed("{}: cannot make the folder: {}", folder, error.message());
  }
  std::unique_ptr<KeptStages> kept(new KeptStages(folder, identity));
  RWKV_TRY(kept->load(resume, note));
  remove_leftovers(folder, "");
  if (kept->done_ == 0) {
    for (const size_t done : states_in(folder)) {
      fs::remove(state_path(folder, done), error);
      note(fmt::format("{}: removed, with what the conversion before had kept",
                       state_path(folder, done)));
    }
    RWKV_ASSIGN(kept->data_, ScratchFile::kept(data_path(folder), 0, 0));
  }
  return kept;
}

// Takes the newest state that is sound and fits; others are passed over, and that is said.
Status KeptStages::load(bool resume, const std::function<void(const std::string& line)>& note) {
  for (const size_t done : states_in(folder_)) {
    const std::string path = state_path(folder_, done);
    const Status status = guarded(path, [&]() -> Status {
      RWKV_ASSIGN(const Json state, read_state(path));
      const auto inputs = state.at("inputs").get<std::vector<std::string>>();
      const auto stages = state.at("stages").get<std::vector<std::string>>();
      if (state.at("format") != kFormat || stages.size() != done) {
        return bad_input("{}: was written by another version", path);
      }
      if (inputs != identity_.inputs) {
        had_others_ = true;
        const size_t at = common(inputs, identity_.inputs);
        return bad_input(
            "{}: kept '{}', now '{}'", path, at < inputs.size() ? printable(inputs[at]) : "nothing",
            at < identity_.inputs.size() ? printable(identity_.inputs[at]) : "nothing");
      }
      if (common(stages, identity_.stages) < done) {
        had_others_ = true;
        return bad_input("{}: the settings of its stages are others now", path);
      }
      if (!resume) {
        return usage_error(
            "{}: has {} finished stage{} of an interrupted conversion; --resume goes on from "
            "there; to start again, remove the folder",
            folder_, done, done == 1 ? "" : "s");
      }
      const Json& data = state.at("data");
      RWKV_ASSIGN(data_, ScratchFile::kept(data_path(folder_), data.at("end").get<uint64_t>(),
                                           data.at("xxh64").get<uint64_t>()));
      state_ = state.dump();
      return {};
    });
    if (status.ok()) {
      done_ = done;
      return {};
    }
    if (status.code() != Code::BadInput) {
      return status;
    }
    data_.reset();
    if (resume) {
      note(fmt::format("{}; passed over", status.message()));
    }
  }
  return {};
}

Status KeptStages::restore(Work& work) const {
  if (done_ == 0) {
    return {};
  }
  const std::string path = state_path(folder_, done_);
  return guarded(path, [&]() -> Status {
    const Json state = Json::parse(state_);
    RWKV_TRY(EditedState::restore(*work.source, state.at("tensors")).in(path));
    auto plan = plan_from_json(state.at("plan"));
    RWKV_TRY(plan.status().in(path));
    work.plan = std::move(plan.value());
    work.errors = state.at("errors").get<std::map<std::string, double>>();
    if (state.contains("hidden")) {
      const auto at = state.at("hidden").at("at").get<uint64_t>();
      const auto rows = state.at("hidden").at("rows").get<uint64_t>();
      const uint64_t row = work.plan.config.n_embd * sizeof(float);
      const uint64_t end = work.source->data().end();
      if (at > end || rows == 0 || rows > (end - at) / row) {
        return bad_input("{}: its activations lie beyond the data", path);
      }
      work.hidden = at::empty(
          {static_cast<int64_t>(rows), static_cast<int64_t>(work.plan.config.n_embd)}, at::kFloat);
      RWKV_TRY(work.source->data().read(
          at, std::as_writable_bytes(std::span(work.hidden.data_ptr<float>(),
                                               static_cast<size_t>(work.hidden.numel())))));
    }
    return {};
  });
}

Status KeptStages::keep(size_t done, Work& work) {
  ScratchFile& data = work.source->data();
  Json state = {{"format", kFormat},
                {"inputs", identity_.inputs},
                {"stages", std::vector<std::string>(
                               identity_.stages.begin(),
                               identity_.stages.begin() + static_cast<std::ptrdiff_t>(done))},
                {"tensors", EditedState::of(*work.source)},
                {"plan", plan_to_json(work.plan)},
                {"errors", work.errors}};
  if (work.hidden.defined()) {
    const at::Tensor hidden = work.hidden.contiguous();
    state["hidden"] = {{"at", data.end()}, {"rows", hidden.size(0)}};
    RWKV_TRY(data.append(
        std::as_bytes(std::span(hidden.data_ptr<float>(), static_cast<size_t>(hidden.numel())))));
  }
  RWKV_TRY(data.sync());
  state["data"] = {{"end", data.end()}, {"xxh64", data.xxh64()}};
  const std::string text = state.dump();
  RWKV_TRY(write_sealed(state_path(folder_, done), OutputFile::Existing::Replace,
                        {{kState, DType::U8, {text.size()}}},
                        [&](size_t, std::vector<std::byte>& out) -> Status {
                          const auto bytes = std::as_bytes(std::span(text));
                          out.assign(bytes.begin(), bytes.end());
                          return {};
                        }));
  done_ = done;
  return {};
}

void KeptStages::remove() const {
  std::error_code ignored;
  for (const size_t done : states_in(folder_)) {
    fs::remove(state_path(folder_, done), ignored);
  }
  fs::remove(data_path(folder_), ignored);
  fs::remove(folder_, ignored);  // if nothing else is in it
}

}  // namespace rwkv::press
