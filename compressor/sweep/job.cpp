#include "compressor/sweep/job.h"

namespace rwkv::press {

Json job_to_json(const SweepJob& job) {
  const SweepInputs& inputs = job.inputs;
  const SweepEvaluation& evaluation = job.evaluation;
  return {{"checkpoint", inputs.checkpoint},
          {"vocab", inputs.vocab},
          {"calibration", inputs.calibration},
          {"statistics", inputs.statistics},
          {"train_data", inputs.train_data},
          {"allow_requantize", inputs.allow_requantize},
          {"texts", evaluation.files.texts},
          {"clozes", evaluation.files.clozes},
          {"choices", evaluation.files.choices},
          {"max_docs", evaluation.files.max_docs},
          {"max_tokens", evaluation.max_tokens},
          {"speed", evaluation.speed},
          {"memory", evaluation.memory},
          {"folder", job.folder},
          {"fingerprint", job.fingerprint},
          {"reference", job.reference},
          {"allow_external", inputs.allow_external},
          {"keep_models", job.keep_models},
          {"points", job.points},
          {"group_norm_eps", inputs.group_norm_eps ? Json(*inputs.group_norm_eps) : Json()}};
}

Result<SweepJob> job_from_json(const std::string& text) {
  try {
    const Json json = Json::parse(text);
    SweepJob job;
    json.at("checkpoint").get_to(job.inputs.checkpoint);
    json.at("vocab").get_to(job.inputs.vocab);
    json.at("calibration").get_to(job.inputs.calibration);
    json.at("statistics").get_to(job.inputs.statistics);
    json.at("train_data").get_to(job.inputs.train_data);
    json.at("allow_requantize").get_to(job.inputs.allow_requantize);
    json.at("allow_external").get_to(job.inputs.allow_external);
    json.at("texts").get_to(job.evaluation.files.texts);
    json.at("clozes").get_to(job.evaluation.files.clozes);
    json.at("choices").get_to(job.evaluation.files.choices);
    json.at("max_docs").get_to(job.evaluation.files.max_docs);
    json.at("max_tokens").get_to(job.evaluation.max_tokens);
    json.at("speed").get_to(job.evaluation.speed);
    json.at("memory").get_to(job.evaluation.memory);
    json.at("folder").get_to(job.folder);
    json.at("fingerprint").get_to(job.fingerprint);
    json.at("reference").get_to(job.reference);
    json.at("keep_models").get_to(job.keep_models);
    json.at("points").get_to(job.points);
    if (const Json& eps = json.at("group_norm_eps"); !eps.is_null()) {
      job.inputs.group_norm_eps = eps.get<float>();
    }
    return job;
  } catch (const Json::exception& error) {
    return bad_input("sweep-point expects a task on stdin, as written by `rwkv-press sweep`: {}",
                     error.what());
  }
}

}  // namespace rwkv::press
