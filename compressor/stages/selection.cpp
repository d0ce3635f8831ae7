#include "compressor/stages/selection.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <map>
#include <string>

#include "compressor/stages/matrix_codes.h"
#include "compressor/stages/quantize_model.h"

namespace rwkv::press {
namespace {

// In the order of Selector.
constexpr std::array<const char*, 6> kSelectors = {"none",  "proxy",        "proxy_unique",
                                                   "crest", "output_error", "kl"};

size_t quantizer_index(const char* name) {
  const auto names = quantizer_names();
  const auto found = std::find_if(names.begin(), names.end(),
                                  [&](const char* each) { return std::strcmp(each, name) == 0; });
  return static_cast<size_t>(found - names.begin());
}

// The codec in the layout of another: in rows if that one is.
Codec laid_out_as(Codec codec, Codec other) {
  const Codec in_rows = codec_traits(codec).in_rows;
  return codec_traits(other).in_rows == other && in_rows != Codec::F32 ? in_rows : codec;
}

// Factors are left out: the inputs of the second depend on what becomes of the first.
bool may_choose(const PlannedTensor& tensor) {
  return codec_traits(tensor.codec).lut != nullptr && has_product(tensor.binding) &&
         tensor.binding.part == Part::Dense;
}

std::string line_of(const MeasuredMatrix& matrix, Selector selector, bool is_codebook) {
  const Proxies& proxies = matrix.costs.proxies;
  std::string line =
      fmt::format("{}: coarse {:.4g}, fine {:.4g}, unique {:.4g} and {:.4g}, crest {:.4g}",
                  matrix.tensor.binding.name, proxies.literal.coarse, proxies.literal.fine,
                  proxies.unique.coarse, proxies.unique.fine, proxies.crest);
  if (selector == Selector::OutputError || selector == Selector::Kl) {
    line += fmt::format("; output error scalar {:.4g}, codebook {:.4g}", matrix.scalar_error,
                        matrix.codebook_error);
  }
  if (selector == Selector::Kl) {
    line +=
        fmt::format("; KL scalar {:.4g}, codebook {:.4g}", matrix.scalar_kl, matrix.codebook_kl);
  }
  return line + fmt::format("; bytes {} and {}: {}", matrix.costs.scalar.bytes,
                            matrix.costs.codebook.bytes, is_codebook ? "codebook" : "scalar");
}

// How the proxies go with what the codebook saves: the logarithm of scalar over codebook loss.
std::string agreement_line(const std::vector<MeasuredMatrix>& matrices, const char* what,
                           double MeasuredMatrix::*scalar, double MeasuredMatrix::*codebook) {
  std::array<std::vector<double>, 5> proxies;
  std::vector<double> gains;
  int64_t n_better = 0;
  for (const MeasuredMatrix& matrix : matrices) {
    const Proxies& p = matrix.costs.proxies;
    const std::array<double, 5> own = {p.literal.coarse, p.literal.fine, p.unique.coarse,
                                       p.unique.fine, p.crest};
    for (size_t i = 0; i < own.size(); ++i) {
      proxies[i].push_back(own[i]);
    }
    constexpr double kNothing = 1e-300;
    gains.push_back(std::log((matrix.*scalar + kNothing) / (matrix.*codebook + kNothing)));
    n_better += matrix.*codebook < matrix.*scalar ? 1 : 0;
  }
  return fmt::format(
      "quantize: by {}, the codebook is better for {} of {}; rank correlation with that of coarse "
      "{:.2f}, fine {:.2f}, unique coarse {:.2f}, unique fine {:.2f}, crest {:.2f}",
      what, n_better, matrices.size(), rank_correlation(proxies[0], gains),
      rank_correlation(proxies[1], gains), rank_correlation(proxies[2], gains),
      rank_correlation(proxies[3], gains), rank_correlation(proxies[4], gains));
}

}  // namespace

Selection::Selection()
    : scalar_(quantizer_index("gptq_uniform")), codebook_(quantizer_index("gptvq_table")) {
  for (const QuantizerTraits& quantizer : quantizer_list()) {
    quantizers_.push_back(quantizer.make());
  }
}

std::vector<Setting> Selection::settings() {
  using namespace setting;
  static const std::vector<const char*> quantizers = quantizer_names();
  const bool is_by_rank = is_on() && rule().selector <= Selector::Crest;
  return {
      choice(
          "selector", selector_, kSelectors,
          "chooses between two quantizers for each matrix: by RWKVQuant's proxies as its text or "
          "as its code has them, by the crest factor, or by measured losses")
          .shown_if(is_on()),
      choice("scalar", scalar_, quantizers, "of matrices that the selector holds even")
          .shown_if(is_on()),
      choice("codebook", codebook_, quantizers, "of the others").shown_if(is_on()),
      codec("codebook_codec", codebook_codec_, "of the others; f32: the same as of the even ones")
          .shown_if(is_on() && codebook_codec_ != Codec::F32),
      real("coarse", coarse_, 0, 1,
           "proxies and crest: this share of the matrices, the lowest, may be scalar")
          .shown_if(is_by_rank),
      real("fine", fine_, 0, 1, "proxies: of those, this share, the lowest of the fine proxy, is")
          .shown_if(is_by_rank && rule().selector != Selector::Crest),
      bytes("budget", budget_, "that the matrices to choose for may take together")
          .shown_if(budget_ > 0),
  };
}

SelectorRule Selection::rule() const {
  return {static_cast<Selector>(selector_), coarse_, fine_, budget_};
}

Status Selection::check() const {
  if (!is_on() && (budget_ > 0 || codebook_codec_ != Codec::F32)) {
    return usage_error(
        "quantize.{} is for choosing between two quantizers; add selector or remove it",
        budget_ > 0 ? "budget" : "codebook_codec");
  }
  if (codebook_codec_ != Codec::F32 && codec_traits(codebook_codec_).lut == nullptr) {
    return usage_error("quantize.codebook_codec: expected a lut codec, got {}",
                       codec_traits(codebook_codec_).name);
  }
  return {};
}

Candidate Selection::scalar_for(const PlannedTensor& tensor) const {
  return {quantizers_[scalar_].get(), tensor.codec};
}

Candidate Selection::codebook_for(const PlannedTensor& tensor) const {
  const Codec codec =
      codebook_codec_ == Codec::F32 ? tensor.codec : laid_out_as(codebook_codec_, tensor.codec);
  return {quantizers_[codebook_].get(), codec};
}

void Selection::plan(PackPlan& plan) const {
  for (PlannedTensor& tensor : plan.tensors) {
    if (!may_choose(tensor)) {
      continue;
    }
    const auto in_file = [&](const Candidate& candidate) {
      PlannedTensor other = tensor;
      other.codec = candidate.quantizer->stored_as(candidate.codec);
      return other;
    };
    const PlannedTensor scalar = in_file(scalar_for(tensor));
    const PlannedTensor codebook = in_file(codebook_for(tensor));
    tensor.codec = (scalar.encoded_bytes() < codebook.encoded_bytes() ? codebook : scalar).codec;
  }
}

void Selection::report(const Work& work, const std::vector<MeasuredMatrix>& matrices,
                       const std::vector<bool>& is_codebook) const {
  uint64_t bytes = 0;
  for (size_t i = 0; i < matrices.size(); ++i) {
    const SelectorInput& costs = matrices[i].costs;
    bytes += (is_codebook[i] ? costs.codebook : costs.scalar).bytes;
    work.report(line_of(matrices[i], rule().selector, is_codebook[i]));
  }
  const bool by_kl = rule().selector == Selector::Kl;
  if (by_kl || rule().selector == Selector::OutputError) {
    work.report(agreement_line(matrices, "output error", &MeasuredMatrix::scalar_error,
                               &MeasuredMatrix::codebook_error));
  }
  if (by_kl) {
    work.report(
        agreement_line(matrices, "KL", &MeasuredMatrix::scalar_kl, &MeasuredMatrix::codebook_kl));
  }
  work.report(fmt::format("quantize: {} of {} matrices get a codebook; together {} bytes",
                          std::count(is_codebook.begin(), is_codebook.end(), true), matrices.size(),
                          bytes));
}

Status Selection::run(Work& work, bool sequential, uint64_t head_groups) const {
  std::vector<MeasuredMatrix> matrices;
  for (const PlannedTensor& tensor : work.plan.tensors) {
    if (may_choose(tensor)) {
      matrices.push_back({tensor, scalar_for(tensor), codebook_for(tensor), {}});
    }
  }
  RWKV_TRY(measure_candidates(work, rule().selector, matrices));
  std::vector<SelectorInput> costs;
  for (const MeasuredMatrix& matrix : matrices) {
    costs.push_back(matrix.costs);
  }
  RWKV_ASSIGN(const std::vector<bool> is_codebook, choose_codebooks(costs, rule()));
  report(work, matrices, is_codebook);
  ModelQuantizing how{.quantizer = *quantizers_[scalar_],
                      .own = {},
                      .sequential = sequential,
                      .head_groups = head_groups};
  std::map<std::string, Codec> codecs;
  for (size_t i = 0; i < matrices.size(); ++i) {
    if (is_codebook[i]) {
      const std::string& name = matrices[i].tensor.binding.name;
      how.own[name] = matrices[i].codebook.quantizer;
      codecs[name] = matrices[i].codebook.codec;
    }
  }
  for (PlannedTensor& tensor : work.plan.tensors) {
    if (const auto found = codecs.find(tensor.binding.name); found != codecs.end()) {
      tensor.codec = found->second;
    }
  }
  return quantize_model(work, how);
}

}  // namespace rwkv::press
