#include "tests/compressor/press_testing.h"

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>

#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/synth.h"
#include "compressor/pipeline/convert.h"
#include "compressor/recipe/recipe.h"
#include "tests/support/catch.h"

namespace rwkv::test {

Status convert(const std::string& input, const std::string& output, const Conversion& how) {
  RWKV_ASSIGN(const press::Preset* preset, press::find_preset(how.preset));
  RWKV_ASSIGN(const press::Recipe recipe,
              press::parse_recipe(how.recipe.empty() ? preset->yaml : how.recipe, "test", how.set));
  RWKV_ASSIGN(const press::Checkpoint checkpoint, press::open_checkpoint(input));
  RWKV_ASSIGN(Identified model, press::identify_checkpoint(*checkpoint.source));
  model.config.group_norm_eps = how.group_norm_eps.value_or(model.config.group_norm_eps);
  RWKV_TRY(press::plan_stages(recipe, model).status());
  press::PackOptions options;
  options.output = output;
  options.existing = OutputFile::Existing::Replace;
  options.model_name = "test";
  options.tool_version = "test";
  options.vocabulary = checkpoint.vocabulary;
  if (how.vocab == "bytes") {
    options.vocabulary = Vocabulary{};
  } else if (!how.vocab.empty()) {
    RWKV_ASSIGN(options.vocabulary, read_vocabulary_file(how.vocab));
  }
  press::PipelineOptions pipeline;
  pipeline.scratch_folder = std::filesystem::path(output).parent_path().string();
  pipeline.training = {how.train_data, options.vocabulary, how.work, how.resume};
  pipeline.training.shard = how.shard;
  pipeline.allow_external = how.allow_external;
  const bool is_given = !how.texts.empty() || !how.statistics.empty();
  if (press::needs_calibration(recipe) || (is_given && press::may_use_calibration(recipe))) {
    press::CalibrationOptions calibration = recipe.calibration;
    calibration.texts = how.texts;
    calibration.statistics = how.statistics;
    RWKV_ASSIGN(pipeline.calibration,
                press::load_calibration(calibration, options.vocabulary, model.config, input));
  }
  return press::convert_checkpoint(recipe, *checkpoint.source, model, pipeline, options).status();
}

std::shared_ptr<const edge::Model> convert_and_open(const std::string& input,
                                                    const std::string& output,
                                                    const Conversion& how) {
  REQUIRE_OK(convert(input, output, how));
  auto model = edge::Model::open(output);
  REQUIRE_OK(model.status());
  return model.take();
}

std::vector<float> all_logits(const std::shared_ptr<const edge::Model>& model,
                              const std::vector<int32_t>& tokens, size_t step, unsigned n_threads,
                              std::vector<float>* state_out) {
  const size_t n_vocab = model->config().n_vocab;
  edge::Evaluator evaluator(model, {n_threads, step});
  edge::State state = model->empty_state();
  std::vector<float> logits(tokens.size() * n_vocab);
  for (size_t begin = 0; begin < tokens.size(); begin += step) {
    const size_t n = std::min(step, tokens.size() - begin);
    REQUIRE_OK(evaluator.forward(std::span(tokens).subspan(begin, n), state, edge::Logits::All,
                                 std::span(logits).subspan(begin * n_vocab, n * n_vocab)));
  }
  if (state_out) {
    state_out->assign(state.values().begin(), state.values().end());
  }
  return logits;
}

std::string write_synth(const ScratchFolder& scratch, const std::string& arch, uint64_t n_embd) {
  press::SynthOptions options;
  options.model.arch = arch;
  options.model.n_layer = 2;
  options.model.n_embd = n_embd;
  options.model.n_vocab = 256;
  options.output = scratch.file(arch + ".pth");
  REQUIRE_OK(press::write_synthetic(options).status());
  return options.output;
}

std::string write_text(const ScratchFolder& scratch, size_t n) {
  std::string text;
  for (size_t i = 0; text.size() < n; ++i) {
    text += fmt::format("{} times {} makes {}; ", i % 17, i % 23, (i % 17) * (i % 23));
  }
  const std::string path = scratch.file(fmt::format("text{}.txt", n));
  std::ofstream(path) << text.substr(0, n);
  return path;
}

double max_difference(const std::vector<float>& a, const std::vector<float>& b) {
  double largest = a.size() == b.size() ? 0.0 : std::numeric_limits<double>::infinity();
  for (size_t i = 0; i < std::min(a.size(), b.size()); ++i) {
    const double d = std::fabs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    largest = d <= largest ? largest : std::isnan(d) ? std::numeric_limits<double>::infinity() : d;
  }
  return largest;
}

}  // namespace rwkv::test
