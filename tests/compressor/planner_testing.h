// A model and its texts to plan for, in tests.
#pragma once

#include <optional>
#include <string>

#include "compressor/checkpoint/open.h"
#include "compressor/checkpoint/synth.h"
#include "compressor/planner/planner.h"
#include "tests/compressor/press_testing.h"
#include "tests/support/catch.h"

namespace rwkv::test {

// A subject over a synthetic model; owns what it refers to.
struct SmallSubject {
  ScratchFolder scratch;
  std::string path;
  press::Checkpoint checkpoint;
  std::optional<press::PlanSubject> subject;

  explicit SmallSubject(const std::string& arch, uint64_t n_embd = 128) {
    make(write_synth(scratch, arch, n_embd), 4);
  }
  // With a model of other sizes, and so many stretches of text to measure losses on.
  SmallSubject(const press::NewModelOptions& model, uint64_t held_out) {
    press::SynthOptions options;
    options.model = model;
    options.output = scratch.file("other.pth");
    REQUIRE_OK(press::write_synthetic(options).status());
    make(options.output, held_out);
  }

 private:
  void make(const std::string& model_path, uint64_t n_held_out) {
    path = model_path;
    auto opened = press::open_checkpoint(path);
    REQUIRE_OK(opened.status());
    checkpoint = opened.take();
    auto model = press::identify_checkpoint(*checkpoint.source);
    REQUIRE_OK(model.status());
    subject.emplace(press::PlanSubject{.source = *checkpoint.source, .model = model.value()});
    auto matrices = press::planned_matrices(model.value());
    REQUIRE_OK(matrices.status());
    subject->matrices = matrices.take();
    subject->frame = press::frame_for(model.value().config);
    subject->frame.name = "plan";
    subject->frame.samples = 16;
    subject->frame.length = 64;
    subject->vocabulary = Vocabulary{};
    auto bytes = press::tokenizer_bytes(subject->vocabulary);
    REQUIRE_OK(bytes.status());
    subject->tokenizer_bytes = bytes.value();
    subject->scratch_folder = scratch.path().string();
    press::CalibrationOptions options;
    options.texts = {write_text(scratch, 12000)};
    options.samples = 16;
    options.length = 64;
    auto calibration = press::sample_texts(options, subject->vocabulary, subject->model.config);
    REQUIRE_OK(calibration.status());
    subject->calibration = calibration.take();
    auto held_out =
        press::held_out_samples(options, n_held_out, subject->vocabulary, subject->model.config);
    REQUIRE_OK(held_out.status());
    subject->held_out = held_out.take();
  }
};

/// A meter of the subject that learns the codes of its ladder.
inline std::unique_ptr<press::LossMeter> meter_of(const press::PlanSubject& subject) {
  auto meter = press::LossMeter::create(subject.source, subject.model.config, subject.matrices,
                                        subject.calibration.tokens, subject.held_out,
                                        {.codecs = subject.ladder.rungs()});
  REQUIRE_OK(meter.status());
  return meter.take();
}

}  // namespace rwkv::test
