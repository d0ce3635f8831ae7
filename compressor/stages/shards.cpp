// Stage `shards`: the rows of large matrices in pieces, each at several widths besides the one that
// stage quantize chose, with what each costs the model's predictions. A device then chooses the
// widths that its memory and its storage allow. The file holds the widths that the operating points
// use, so that flash is not paid for what nobody reads.
#include "compressor/stages/shards.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>
#include <span>
#include <string_view>

#include "compressor/quantizers/needs.h"
#include "compressor/quantizers/quantizer.h"
#include "compressor/selectors/choice.h"
#include "compressor/stages/shard_choice.h"
#include "compressor/stages/shard_codes.h"
#include "compressor/stages/shard_losses.h"
#include "compressor/stages/shard_plan.h"
#include "formats/container/shard_index.h"

namespace rwkv::press {
namespace {

enum class Importance : uint8_t { Estimated, Measured, Random };
// In this order. Estimates are the default, also where measuring is affordable: single tokens
// decide what is measured on a short text, and on held-out text estimates choose better widths
// (docs/streaming.md).
constexpr std::array<const char*, 3> kImportances = {"estimated", "measured", "random"};

// A list of what `make` binds to each value, printed in one line.
template <typename Value, typename Make>
Setting list_of(std::string_view key, std::vector<Value>& list, const Make& make,
                std::string_view help) {
  Value unused{};
  const Setting inner = make(unused);
  Setting setting{key, help, "a list, each of them " + inner.expected, {}, {}};
  setting.schema = fmt::format(R"({{"type": "array", "items": {}}})", inner.schema);
  setting.read = [&list, make, expected = setting.expected](const YAML::Node& node,
                                                            const std::string& name) -> Status {
    if (!node.IsSequence()) {
      return wrong_value(name, expected, node);
    }
    list.clear();
    for (const YAML::Node& each : node) {
      Value value{};
      RWKV_TRY(make(value).read(each, name));
      list.push_back(std::move(value));
    }
    return {};
  };
  setting.print = [&list](YAML::Emitter& out) {
    out << YAML::Flow << YAML::BeginSeq;
    for (const Value& value : list) {
      out << value;
    }
    out << YAML::EndSeq;
  };
  return setting;
}

// The name of a codec, or kLeftOut.
Setting width_setting(std::string& value) {
  Codec unused{};
  Setting setting = setting::codec("widths", unused, "");
  setting.expected += fmt::format(", or {}", kLeftOut);
  setting.schema =
      fmt::format(R"({{"anyOf": [{{"enum": ["{}"]}}, {}]}})", kLeftOut, setting.schema);
  setting.read = [&value](const YAML::Node& node, const std::string& name) -> Status {
    if (node.IsScalar() && node.Scalar() == kLeftOut) {
      value = kLeftOut;
      return {};
    }
    Codec codec{};
    RWKV_TRY(setting::codec("widths", codec, "").read(node, name));
    value = codec_traits(codec).name;
    return {};
  };
  return setting;
}

double bits_of(const std::string& width) {
  return width == kLeftOut ? 0 : find_codec(width)->bits;
}

class ShardsStage final : public Stage {
 public:
  const char* name() const override { return "shards"; }
  Settings settings() override;
  Status plan(PackPlan& plan) const override;
  bool needs_calibration() const override {
    return importance() != Importance::Random || quantizer()->learns();
  }
  // The copies of values that were rounded before.
  bool rounds_again() const override { return true; }
  Needs needs(const StageSubject& subject) const override;
  Status run(Work& work) const override;

 protected:
  Status settle(const YAML::Node& given) override;

 private:
  Importance importance() const { return static_cast<Importance>(importance_); }
  std::unique_ptr<Quantizer> quantizer() const { return quantizer_list()[quantizer_].make(); }
  Status find_losses(Work& work) const;
  Status measure(Work& work) const;
  Status keep_chosen(Work& work) const;
  void report(const Work& work) const;

  std::vector<std::string> widths_ = {"lut5", "lut4", "lut3"};
  std::vector<double> points_;
  size_t importance_ = 0;
  size_t quantizer_ = [] {
    const auto names = quantizer_names();
    return static_cast<size_t>(std::find(names.begin(), names.end(), std::string_view("refined")) -
                               names.begin());
  }();
  uint64_t piece_kb_ = 0;
};

Settings ShardsStage::settings() {
  using namespace setting;
  static const std::vector<const char*> quantizers = quantizer_names();
  constexpr uint64_t kMostKb = 8192;
  return {
      name(),
      {
          list_of("widths", widths_, width_setting,
                  "codecs of fewer bits that pieces of matrices have besides their own; none: "
                  "a piece may be left out"),
          list_of(
              "points", points_, [](double& value) { return real("points", value, 1e-3, 1, ""); },
              "operating points, shares of the bytes at full width: the file has the widths "
              "that they use; without any, all widths of all pieces"),
          choice(
              "importance", importance_, kImportances,
              "what a piece costs at a width: estimated from gradients, measured one by one (a run "
              "of the model for each piece and width), random (to compare with)"),
          choice("quantizer", quantizer_, quantizers, "how values become codes"),
          count("piece_kb", piece_kb_, 0, kMostKb,
                "of a piece at full width; 0: 1/256 of all, from 512 to 4096")
              .shown_if(piece_kb_ > 0),
      }};
}

Status ShardsStage::settle(const YAML::Node& /*given*/) {
  std::stable_sort(widths_.begin(), widths_.end(), [](const std::string& a, const std::string& b) {
    return bits_of(a) > bits_of(b);
  });
  const auto twice = std::adjacent_find(
      widths_.begin(), widths_.end(),
      [](const std::string& a, const std::string& b) { return bits_of(a) == bits_of(b); });
  if (widths_.empty() || twice != widths_.end()) {
    return usage_error("shards.widths: expected different codecs, found {}",
                       widths_.empty() ? std::string("none at all")
                                       : fmt::format("{} and {}", *twice, *(twice + 1)));
  }
  if (quantizer()->stored_as(Codec::Lut4) != Codec::Lut4) {
    return usage_error(
        "shards.quantizer: the codes of {} are in no codec; choose another, such as refined",
        quantizer_list()[quantizer_].name);
  }
  return {};
}

Status ShardsStage::plan(PackPlan& plan) const {
  RWKV_TRY(plan_shards(widths_, piece_kb_ << 10, plan));
  const PieceOptions options = options_of(plan);
  const double least =
      static_cast<double>(options.least_bytes) / static_cast<double>(options.full_bytes);
  for (const double point : points_) {
    if (point < least) {
      return usage_error(
          "shards.points: {} is less than the narrowest widths take, {:.3f}; raise it, or add a "
          "narrower width",
          point, least);
    }
  }
  return {};
}

// The codes of all widths; then gradients and a walk, or a run of the model for each piece.
Needs ShardsStage::needs(const StageSubject& subject) const {
  PackPlan after = subject.plan;
  if (!plan(after).ok()) {
    return {};
  }
  Needs needs = walk_needs(subject);
  const Needs moments = moments_needs(subject);
  needs.memory += moments.memory;
  needs.parallel += moments.parallel;
  Needs largest;
  double n_pieces = 0;
  for (const PlannedShards::Matrix& matrix : after.shards.matrices) {
    const PlannedTensor& tensor = *after.find(matrix.name);
    n_pieces += static_cast<double>(matrix.losses.size());
    Needs own = learnt_needs(tensor.binding.packed_rows(), tensor.binding.packed_cols(),
                             tensor.binding.layout == Layout::Transposed);
    if (tensor.binding.role == Role::Head) {
      const Needs groups = output_groups_needs(tensor.binding.packed_rows(),
                                               tensor.binding.packed_cols(), subject.tokens);
      needs.parallel += groups.parallel;
      own.memory += groups.memory;
    }
    largest.memory = std::max(largest.memory, own.memory);
    needs.parallel += own.parallel * static_cast<double>(after.shards.widths.size());
    needs.disk += codec_traits(tensor.codec).lut == nullptr ? tensor.encoded_bytes() : 0;
  }
  needs.memory += largest.memory;
  needs.disk += copy_bytes(after);
  if (importance() != Importance::Random) {
    // Forwards and back, and the products of every width; measured, half the model for each piece.
    const Needs walk = walk_needs(subject);
    needs.parallel += walk.parallel * (3 + static_cast<double>(after.shards.widths.size()));
    needs.parallel += walk.parallel * (importance() == Importance::Measured ? n_pieces / 2 : 0);
    needs.memory += uint64_t{1} << 29;
  }
  return needs;
}

// The losses of all pieces at all widths, one after the other.
std::vector<double> all_losses(const PlannedShards& shards) {
  std::vector<double> losses;
  for (const PlannedShards::Matrix& matrix : shards.matrices) {
    std::copy_if(matrix.losses.begin(), matrix.losses.end(), std::back_inserter(losses),
                 [](double loss) { return loss != PlannedShards::kAbsent; });
  }
  return losses;
}

// Of several, or 1.
double median_of(std::vector<double> values) {
  if (values.empty()) {
    return 1;
  }
  std::sort(values.begin(), values.end());
  const size_t half = values.size() / 2;
  return values.size() % 2 == 1 ? values[half] : std::sqrt(values[half - 1] * values[half]);
}

// What a piece costs from width to width follows the errors of its weights, which estimates know
// well; how much in all, which is measured, one token by chance can decide. So all widths of a
// piece are its estimates times the median of its ratios.
void combine(const std::vector<Codec>& codecs, std::span<const double> estimated,
             std::span<double> losses) {
  std::vector<double> ratios;
  for (size_t w = 0; w < codecs.size(); ++w) {
    if (codecs[w] != Codec::F32 && estimated[w] > 0 && losses[w] > 0) {
      ratios.push_back(losses[w] / estimated[w]);
    }
  }
  for (size_t w = 0; w < codecs.size(); ++w) {
    if (codecs[w] != Codec::F32 && !ratios.empty()) {
      losses[w] = estimated[w] * median_of(ratios);
    }
  }
}

// Measured losses, and how well estimates do.
Status ShardsStage::measure(Work& work) const {
  RWKV_TRY(measure_shard_losses(work));
  PlannedShards measured = work.plan.shards;
  RWKV_TRY(estimate_shard_losses(work));
  const PlannedShards& estimated = work.plan.shards;
  const std::vector<double> a = all_losses(estimated);
  const std::vector<double> b = all_losses(measured);
  const double sums[] = {std::accumulate(a.begin(), a.end(), 0.0),
                         std::accumulate(b.begin(), b.end(), 0.0)};
  const size_t n = measured.widths.size();
  for (size_t m = 0; m < measured.matrices.size(); ++m) {
    PlannedShards::Matrix& matrix = measured.matrices[m];
    for (size_t i = 0; i < matrix.losses.size(); i += n) {
      combine(matrix.codecs, std::span(estimated.matrices[m].losses).subspan(i, n),
              std::span(matrix.losses).subspan(i, n));
    }
  }
  work.report(fmt::format(
      "shards: rank correlation of estimated with measured losses {:.3f}, with the losses in use "
      "{:.3f}; estimates add up to {:.3f} of what was measured",
      rank_correlation(a, b), rank_correlation(a, all_losses(measured)),
      sums[0] / std::max(1e-300, sums[1])));
  work.plan.shards = std::move(measured);
  return {};
}

Status ShardsStage::find_losses(Work& work) const {
  if (importance() == Importance::Random) {
    work.report("shards: importance is random, to compare with: not of use otherwise");
    draw_shard_losses(work);
    return {};
  }
  return importance() == Importance::Measured ? measure(work) : estimate_shard_losses(work);
}

// Of all widths those that the operating points use.
Status ShardsStage::keep_chosen(Work& work) const {
  PlannedShards& shards = work.plan.shards;
  const PieceOptions options = options_of(work.plan);
  const size_t n = shards.widths.size();
  std::vector<PlannedShards::Matrix> kept = shards.matrices;
  for (PlannedShards::Matrix& matrix : kept) {
    std::fill(matrix.losses.begin(), matrix.losses.end(), PlannedShards::kAbsent);
  }
  for (const double point : points_) {
    const ChosenWidths chosen = choose_within(work.plan, options, point);
    std::string line =
        fmt::format("shards: at {} of the bytes ({} of {}), losses add up to {:.6f} nats per token",
                    point, chosen.bytes, options.full_bytes, chosen.loss);
    if (importance() == Importance::Measured) {
      RWKV_ASSIGN(const double together, measure_shard_choice(work, chosen.widths));
      line += fmt::format(", together they are {:.6f}", together);
    }
    work.report(line);
    for (size_t m = 0; m < kept.size(); ++m) {
      for (size_t p = 0; p < chosen.widths[m].size(); ++p) {
        if (const uint32_t w = chosen.widths[m][p]; w > 0) {
          kept[m].losses[p * n + w - 1] = shards.matrices[m].losses[p * n + w - 1];
        }
      }
    }
  }
  if (!points_.empty()) {
    shards.matrices = std::move(kept);
  }
  return {};
}

void ShardsStage::report(const Work& work) const {
  const PlannedShards& shards = work.plan.shards;
  const size_t n = shards.widths.size();
  size_t n_pieces = 0;
  std::vector<size_t> at(n);
  for (const PlannedShards::Matrix& matrix : shards.matrices) {
    for (size_t i = 0; i < matrix.losses.size(); ++i) {
      at[i % n] += matrix.losses[i] != PlannedShards::kAbsent ? 1 : 0;
    }
    n_pieces += matrix.losses.size() / n;
  }
  std::string text;
  for (size_t w = 0; w < n; ++w) {
    text += fmt::format("{}{} {:.0f} %", w == 0 ? "" : ", ", shards.widths[w],
                        100 * static_cast<double>(at[w]) / static_cast<double>(n_pieces));
  }
  work.report(
      fmt::format("shards: {} matrices in {} pieces, of them {}: {} bytes besides the "
                  "{} of full width",
                  shards.matrices.size(), n_pieces, text, copy_bytes(work.plan),
                  options_of(work.plan).full_bytes));
}

Status ShardsStage::run(Work& work) const {
  RWKV_TRY(plan(work.plan));
  RWKV_ASSIGN(const std::vector<std::string> rounded, round_to_full_width(work));
  RWKV_TRY(quantize_shards(work, *quantizer()));
  RWKV_TRY(find_losses(work));
  RWKV_TRY(keep_chosen(work));
  RWKV_TRY(sum_up_pieces(work));
  for (const std::string& name : rounded) {
    work.source->drop_codes(name);
  }
  report(work);
  return {};
}

}  // namespace

std::unique_ptr<Stage> make_shards_stage() {
  return std::make_unique<ShardsStage>();
}

}  // namespace rwkv::press
