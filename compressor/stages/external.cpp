// Stage `external`: writes the model in its current state as a .pth under BlinkDL's names (factor
// pairs as in x058 and x059), runs any program on it, and checks and reads the result.
#include "compressor/stages/external.h"

#include <array>
#include <filesystem>

#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/tensor.h"
#include "compressor/checkpoint/write.h"
#include "compressor/model/named_tensors.h"
#include "compressor/numerics/tensor_ops.h"
#include "compressor/stages/command_line.h"
#include "compressor/stages/watched_shell.h"
#include "formats/base/printable.h"

namespace rwkv::press {
namespace {

namespace fs = std::filesystem;

constexpr std::array<const char*, 2> kDtypes = {"bf16", "f32"};

class ExternalStage final : public Stage {
 public:
  const char* name() const override { return "external"; }
  Settings settings() override {
    using namespace setting;
    return {name(),
            {
                quoted_text("command", command_,
                            "for /bin/sh; {input} and {output} stand for the two files"),
                choice("dtype", dtype_, kDtypes, "of the file handed over"),
            }};
  }
  Status plan(PackPlan& plan) const override;
  bool trains() const override { return true; }
  std::string command() const override { return command_; }
  // The two files. What the command itself takes is not known.
  Needs needs(const StageSubject& subject) const override {
    const PlanSizes sizes = PlanSizes::of(subject.plan);
    const uint64_t file = sizes.all * (dtype_ == 0 ? 2 : sizeof(float));
    Needs needs;
    needs.memory = 2 * sizeof(float) * sizes.largest;
    needs.disk = 2 * file + sizeof(float) * sizes.all;
    needs.files = 2 * needs.disk;
    return needs;
  }
  Status run(Work& work) const override;

 protected:
  Status settle(const YAML::Node& given) override;

 private:
  Status hand_over(const Work& work, const std::string& path) const;
  Status take_back(Work& work, const std::string& path) const;

  std::string command_;
  size_t dtype_ = 0;
};

Status ExternalStage::settle(const YAML::Node& /*given*/) {
  return check_command(command_);
}

Status ExternalStage::plan(PackPlan& plan) const {
  for (const PlannedTensor& tensor : plan.tensors) {
    if (tensor.binding.part == Part::Diagonal && plan.config.low_rank == LowRankForm::Linear) {
      return usage_error(
          "external: linear pairs with a diagonal have no names in checkpoints (the diagonal of "
          "x059 "
          "belongs to another form); remove low_rank.diagonal");
    }
  }
  return {};
}

Status ExternalStage::hand_over(const Work& work, const std::string& path) const {
  const DType dtype = dtype_ == 0 ? DType::BF16 : DType::F32;
  std::vector<TensorInfo> infos = work.source->tensors();
  for (TensorInfo& info : infos) {
    info.dtype = dtype;
  }
  return write_checkpoint(path, OutputFile::Existing::Replace, infos,
                          [&](size_t index, std::vector<std::byte>& out) {
                            return read_as(*work.source, index, dtype, out);
                          });
}

// Requires the same tensors in the same shapes with finite values; takes none before all are
// checked.
Status ExternalStage::take_back(Work& work, const std::string& path) const {
  if (!fs::exists(path)) {
    return failed("external: the command succeeded but did not write {}", path);
  }
  RWKV_ASSIGN(const Checkpoint checkpoint, open_checkpoint(path));
  const TensorSource& source = *checkpoint.source;
  for (const bool takes : {false, true}) {
    for (const PlannedTensor& tensor : work.plan.tensors) {
      const TensorBinding& binding = tensor.binding;
      RWKV_ASSIGN(const at::Tensor values, load_named(source, binding.name));
      uint64_t n = 1;
      for (const uint64_t size : binding.shape) {
        n *= size;
      }
      const bool same_matrix = values.dim() < 2 || binding.shape.size() < 2 ||
                               binding.role == Role::Vector ||
                               (values.size(0) == static_cast<int64_t>(binding.shape[0]) &&
                                values.size(1) == static_cast<int64_t>(binding.shape[1]));
      if (static_cast<uint64_t>(values.numel()) != n || !same_matrix) {
        return bad_input(
            "{}: '{}' came back with {} values in another shape; expected {} in the same shape",
            path, binding.name, values.numel(), shape_to_string(binding.shape));
      }
      if (!at::isfinite(values).all().item<bool>()) {
        return bad_input("{}: '{}' came back with values that are not finite", path, binding.name);
      }
      if (takes) {
        RWKV_TRY(work.replace(binding.name, values));
      }
    }
  }
  return {};
}

Status ExternalStage::run(Work& work) const {
  std::error_code error;
  fs::create_directories(work.training.folder, error);
  // Absolute: a name that begins with "-" would be an option to the command.
  const fs::path folder = fs::absolute(work.training.folder, error);
  const std::string input = (folder / "external-input.pth").string();
  const std::string output = (folder / "external-output.pth").string();
  fs::remove(output, error);
  RWKV_TRY(hand_over(work, input));
  work.report(fmt::format("external: {} handed over", printable(input)));
  work.report(fmt::format("external: runs: {}", printable(command_, command_.size())));
  const Status status =
      run_watched(with_variables(command_), {{kInputVariable, input}, {kOutputVariable, output}});
  RWKV_TRY(status.in(fmt::format("external: '{}'", command_)));
  RWKV_TRY(take_back(work, output));
  work.hidden = at::Tensor();
  work.report(fmt::format("external: {} taken back", printable(output)));
  return {};
}

}  // namespace

std::unique_ptr<Stage> make_external_stage() {
  return std::make_unique<ExternalStage>();
}

}  // namespace rwkv::press
