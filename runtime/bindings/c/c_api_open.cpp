// The C API's ways to open a model, and to plan again what it streams.
#include <cmath>
#include <utility>

#include "runtime/bindings/c/c_api_parts.h"

using rwkv::Result;
using rwkv::Status;
using rwkv::usage_error;
using rwkv::edge::MemoryOptions;
using rwkv::edge::mode_list;
using rwkv::edge::Model;
using rwkv::edge::ModeTraits;
using rwkv::edge::c_api::guarded;
using rwkv::edge::c_api::needs;

namespace {

Result<MemoryOptions> memory_options(rwkv_memory_mode mode, uint64_t limit) {
  MemoryOptions options;
  options.limit = limit;
  if (mode == RWKV_MEMORY_ANY) {
    return options;
  }
  for (const ModeTraits& traits : mode_list()) {
    if (traits.c_value == static_cast<int>(mode)) {
      options.mode = traits.mode;
      return options;
    }
  }
  return rwkv::usage_error(
      "mode: expected RWKV_MEMORY_ANY (0) to RWKV_MEMORY_STREAMED (6), found {}",
      static_cast<int>(mode));
}

Status open_model(const char* path, const MemoryOptions& options, rwkv_model** out) {
  RWKV_ASSIGN(std::shared_ptr<const Model> model, Model::open(path, options));
  const std::string version = rwkv::version_label(model->config());
  const int32_t end_of_text = rwkv::edge::end_of_text_token(*model);
  *out = new rwkv_model{std::move(model), version, end_of_text};
  return {};
}

bool is_positive(double value) {
  return value > 0 && std::isfinite(value);
}

bool is_goal(double value) {
  return value == 0 || is_positive(value);
}

}  // namespace

rwkv_status rwkv_model_open(const char* path, rwkv_model** out) {
  return rwkv_model_open_within(path, RWKV_MEMORY_FULL, 0, out);
}

rwkv_status rwkv_model_open_within(const char* path, rwkv_memory_mode mode, uint64_t limit,
                                   rwkv_model** out) {
  return guarded("rwkv_model_open", [&]() -> Status {
    RWKV_TRY(needs(out, "out"));
    *out = nullptr;
    RWKV_TRY(needs(path, "path"));
    RWKV_ASSIGN(const MemoryOptions options, memory_options(mode, limit));
    return open_model(path, options, out);
  });
}

rwkv_status rwkv_model_open_streamed(const char* path, const rwkv_device* device,
                                     const rwkv_stream_goal* goal, rwkv_model** out) {
  return guarded("rwkv_model_open_streamed", [&]() -> Status {
    RWKV_TRY(needs(out, "out"));
    *out = nullptr;
    RWKV_TRY(needs(path, "path"));
    RWKV_TRY(needs(device, "device"));
    RWKV_TRY(needs(goal, "goal"));
    if (!is_positive(device->read_bytes_per_second) || !is_positive(device->compute_seconds) ||
        device->n_threads < 1 || device->n_threads > 256) {
      return usage_error("device: expected speeds above 0 and 1 to 256 threads, found {}, {}, {}",
                         device->read_bytes_per_second, device->compute_seconds, device->n_threads);
    }
    if (!is_goal(goal->tokens_per_second) || !is_goal(goal->first_token_seconds)) {
      return usage_error("goal: expected numbers from 0, found {} tokens/s and {} s",
                         goal->tokens_per_second, goal->first_token_seconds);
    }
    RWKV_ASSIGN(MemoryOptions options, memory_options(RWKV_MEMORY_STREAMED, goal->limit));
    options.n_threads = device->n_threads;
    options.stream.device = {
        device->read_bytes_per_second, device->compute_seconds, device->n_threads, {}};
    options.stream.tokens_per_second = goal->tokens_per_second;
    options.stream.first_token_seconds = goal->first_token_seconds;
    return open_model(path, options, out);
  });
}

rwkv_status rwkv_session_replan(rwkv_session* session, uint64_t limit, double tokens_per_second) {
  return guarded("rwkv_session_replan", [&]() -> Status {
    RWKV_TRY(needs(session, "session"));
    if (!is_goal(tokens_per_second)) {
      return usage_error("tokens_per_second: expected a number from 0, found {}",
                         tokens_per_second);
    }
    return session->session->model().plan_again({limit, tokens_per_second, 0});
  });
}
