// The C API: checks pointers, turns Status into codes and texts, stops exceptions. Only rwkv_edge.h
// describes the functions.
#include <algorithm>
#include <cstring>

#include "runtime/bindings/c/c_api_parts.h"

using rwkv::Code;
using rwkv::Result;
using rwkv::Status;
using rwkv::usage_error;
using rwkv::edge::Piece;
using rwkv::edge::SamplerOptions;
using rwkv::edge::Session;
using rwkv::edge::SessionOptions;
using rwkv::edge::StopReason;

namespace {

// A fixed buffer, so that "out of memory" can be said without memory. Longer texts are cut.
using rwkv::edge::c_api::kErrorBytes;
thread_local char last_error[kErrorBytes] = "";

}  // namespace

namespace rwkv::edge::c_api {

void remember(std::string_view message) {
  const size_t n = std::min(message.size(), kErrorBytes - 1);
  std::copy_n(message.data(), n, last_error);
  last_error[n] = '\0';
}

rwkv_status status_of(Code code) {
  switch (code) {
    case Code::Ok:
      return RWKV_OK;
    case Code::Usage:
      return RWKV_USAGE;
    case Code::BadInput:
      return RWKV_BAD_INPUT;
    case Code::Failed:
    case Code::QualityGate:
      return RWKV_FAILED;
  }
  return RWKV_FAILED;
}

}  // namespace rwkv::edge::c_api

using rwkv::edge::c_api::field_of;
using rwkv::edge::c_api::guarded;
using rwkv::edge::c_api::needs;
using rwkv::edge::c_api::view;

namespace {

/// Copies `values` to a caller's buffer, or only counts them; the rules of rwkv_encode.
template <typename Values, typename T>
Status hand_over(const Values& values, T* out, size_t capacity, size_t* n_out) {
  *n_out = values.size();
  if (!out && capacity == 0) {
    return {};
  }
  RWKV_TRY(needs(out, "the output buffer"));
  if (values.size() > capacity) {
    return usage_error("the output buffer is too small: {} elements are needed, it has {}",
                       values.size(), capacity);
  }
  std::copy(values.begin(), values.end(), out);
  return {};
}

Result<const rwkv::Tokenizer*> tokenizer_of(const rwkv_model& model) {
  if (!model.model->tokenizer()) {
    return rwkv::bad_input("the model was packed without a vocabulary; use token ids");
  }
  return model.model->tokenizer();
}

SamplerOptions sampler_options(const rwkv_sampler_options& options) {
  return {.temperature = options.temperature,
          .top_k = options.top_k,
          .top_p = options.top_p,
          .presence_penalty = options.presence_penalty,
          .frequency_penalty = options.frequency_penalty,
          .penalty_decay = options.penalty_decay,
          .seed = options.seed};
}

rwkv_stop_reason stop_reason(StopReason reason) {
  switch (reason) {
    case StopReason::MaxTokens:
      return RWKV_STOP_MAX_TOKENS;
    case StopReason::EndOfText:
      return RWKV_STOP_END_OF_TEXT;
    case StopReason::StopString:
      return RWKV_STOP_STRING;
    case StopReason::Cancelled:
      return RWKV_STOP_CANCELLED;
  }
  return RWKV_STOP_MAX_TOKENS;
}

}  // namespace

const char* rwkv_edge_version(void) {
  return RWKV_EDGE_VERSION;
}

int rwkv_edge_api_version(void) {
  return RWKV_EDGE_API_VERSION;
}

const char* rwkv_last_error(void) {
  return last_error;
}

void rwkv_model_free(rwkv_model* model) {
  delete model;
}

size_t rwkv_model_n_vocab(const rwkv_model* model) {
  return field_of("rwkv_model_n_vocab", model,
                  [](const rwkv_model* m) -> size_t { return m->model->config().n_vocab; });
}

size_t rwkv_model_n_layer(const rwkv_model* model) {
  return field_of("rwkv_model_n_layer", model,
                  [](const rwkv_model* m) -> size_t { return m->model->config().n_layer; });
}

size_t rwkv_model_n_embd(const rwkv_model* model) {
  return field_of("rwkv_model_n_embd", model,
                  [](const rwkv_model* m) -> size_t { return m->model->config().n_embd; });
}

uint64_t rwkv_model_bytes(const rwkv_model* model) {
  return field_of("rwkv_model_bytes", model,
                  [](const rwkv_model* m) { return m->model->weights().total_bytes(); });
}

uint64_t rwkv_model_bytes_per_token(const rwkv_model* model) {
  return field_of("rwkv_model_bytes_per_token", model,
                  [](const rwkv_model* m) { return m->model->weights().whole().most_per_token; });
}

uint64_t rwkv_model_resident_bytes(const rwkv_model* model) {
  return field_of("rwkv_model_resident_bytes", model,
                  [](const rwkv_model* m) { return m->model->weights().account().total(); });
}

uint64_t rwkv_model_bytes_read(const rwkv_model* model) {
  return field_of("rwkv_model_bytes_read", model,
                  [](const rwkv_model* m) { return m->model->weights().traffic().read(); });
}

const char* rwkv_model_version(const rwkv_model* model) {
  const char* version =
      field_of("rwkv_model_version", model, [](const rwkv_model* m) { return m->version.c_str(); });
  return version ? version : "";
}

int rwkv_model_has_vocabulary(const rwkv_model* model) {
  return field_of("rwkv_model_has_vocabulary", model,
                  [](const rwkv_model* m) { return m->model->tokenizer() ? 1 : 0; });
}

int32_t rwkv_model_end_of_text(const rwkv_model* model) {
  const int has_one = field_of("rwkv_model_end_of_text", model, [](const rwkv_model* m) {
    return m->end_of_text == rwkv::edge::kNoToken ? 0 : 1;
  });
  return has_one == 1 ? model->end_of_text : rwkv::edge::kNoToken;
}

rwkv_status rwkv_encode(const rwkv_model* model, const char* text, size_t n_bytes, int32_t* ids,
                        size_t capacity, size_t* n_out) {
  return guarded("rwkv_encode", [&]() -> Status {
    RWKV_TRY(needs(n_out, "n_out"));
    *n_out = 0;
    RWKV_TRY(needs(model, "model"));
    RWKV_TRY(needs(text, n_bytes, "text"));
    RWKV_ASSIGN(const rwkv::Tokenizer* tokenizer, tokenizer_of(*model));
    std::vector<int32_t> tokens;
    RWKV_TRY(tokenizer->encode(view(text, n_bytes), tokens));
    return hand_over(tokens, ids, capacity, n_out);
  });
}

rwkv_status rwkv_decode(const rwkv_model* model, const int32_t* ids, size_t n_ids, char* text,
                        size_t capacity, size_t* n_out) {
  return guarded("rwkv_decode", [&]() -> Status {
    RWKV_TRY(needs(n_out, "n_out"));
    *n_out = 0;
    RWKV_TRY(needs(model, "model"));
    RWKV_TRY(needs(ids, n_ids, "ids"));
    RWKV_ASSIGN(const rwkv::Tokenizer* tokenizer, tokenizer_of(*model));
    RWKV_ASSIGN(const std::string bytes,
                rwkv::decode(*tokenizer, std::vector<int32_t>(ids, ids + n_ids)));
    return hand_over(bytes, text, capacity, n_out);
  });
}

rwkv_status rwkv_session_new(const rwkv_model* model, unsigned n_threads, rwkv_session** out) {
  return guarded("rwkv_session_new", [&]() -> Status {
    RWKV_TRY(needs(out, "out"));
    *out = nullptr;
    RWKV_TRY(needs(model, "model"));
    SessionOptions options;
    options.n_threads = n_threads;
    RWKV_ASSIGN(std::unique_ptr<Session> session, Session::create(model->model, options));
    *out = new rwkv_session{std::move(session)};
    return {};
  });
}

void rwkv_session_free(rwkv_session* session) {
  delete session;
}

rwkv_status rwkv_session_reset(rwkv_session* session) {
  return guarded("rwkv_session_reset", [&]() -> Status {
    RWKV_TRY(needs(session, "session"));
    session->session->reset();
    return {};
  });
}

rwkv_status rwkv_session_clone(const rwkv_session* session, rwkv_session** out) {
  return guarded("rwkv_session_clone", [&]() -> Status {
    RWKV_TRY(needs(out, "out"));
    *out = nullptr;
    RWKV_TRY(needs(session, "session"));
    RWKV_ASSIGN(std::unique_ptr<Session> copy, session->session->clone());
    *out = new rwkv_session{std::move(copy)};
    return {};
  });
}

rwkv_status rwkv_eval(rwkv_session* session, const int32_t* tokens, size_t n) {
  return guarded("rwkv_eval", [&]() -> Status {
    RWKV_TRY(needs(session, "session"));
    RWKV_TRY(needs(tokens, n, "tokens"));
    return session->session->feed_tokens({tokens, n});
  });
}

rwkv_status rwkv_eval_text(rwkv_session* session, const char* text, size_t n_bytes) {
  return guarded("rwkv_eval_text", [&]() -> Status {
    RWKV_TRY(needs(session, "session"));
    RWKV_TRY(needs(text, n_bytes, "text"));
    return session->session->feed_text(view(text, n_bytes));
  });
}

rwkv_status rwkv_logits(const rwkv_session* session, float* out, size_t n) {
  return guarded("rwkv_logits", [&]() -> Status {
    RWKV_TRY(needs(session, "session"));
    RWKV_TRY(needs(out, "out"));
    const std::span<const float> logits = session->session->logits();
    if (logits.empty()) {
      return usage_error("there are no logits yet: feed at least one token first");
    }
    if (n != logits.size()) {
      return usage_error("expected a buffer of {} logits, found {}", logits.size(), n);
    }
    std::copy(logits.begin(), logits.end(), out);
    return {};
  });
}

size_t rwkv_state_bytes(const rwkv_session* session) {
  return field_of("rwkv_state_bytes", session,
                  [](const rwkv_session* s) { return s->session->state_bytes(); });
}

rwkv_status rwkv_state_get(const rwkv_session* session, void* out, size_t n) {
  return guarded("rwkv_state_get", [&]() -> Status {
    RWKV_TRY(needs(session, "session"));
    RWKV_TRY(needs(out, "out"));
    return session->session->save_state({static_cast<std::byte*>(out), n});
  });
}

rwkv_status rwkv_state_set(rwkv_session* session, const void* state, size_t n) {
  return guarded("rwkv_state_set", [&]() -> Status {
    RWKV_TRY(needs(session, "session"));
    RWKV_TRY(needs(state, "state"));
    return session->session->load_state({static_cast<const std::byte*>(state), n});
  });
}

rwkv_status rwkv_state_save(const rwkv_session* session, const char* path) {
  return guarded("rwkv_state_save", [&]() -> Status {
    RWKV_TRY(needs(session, "session"));
    RWKV_TRY(needs(path, "path"));
    return session->session->save_state_file(path, rwkv::OutputFile::Existing::Replace);
  });
}

rwkv_status rwkv_state_load(rwkv_session* session, const char* path) {
  return guarded("rwkv_state_load", [&]() -> Status {
    RWKV_TRY(needs(session, "session"));
    RWKV_TRY(needs(path, "path"));
    return session->session->load_state_file(path).status();
  });
}

rwkv_sampler_options rwkv_sampler_default(void) {
  const SamplerOptions options;
  return {options.temperature,       options.top_k,         options.top_p, options.presence_penalty,
          options.frequency_penalty, options.penalty_decay, options.seed};
}

rwkv_status rwkv_session_set_stops(rwkv_session* session, const char* const* stops,
                                   const size_t* n_bytes, size_t n_stops) {
  return guarded("rwkv_session_set_stops", [&]() -> Status {
    RWKV_TRY(needs(session, "session"));
    RWKV_TRY(needs(stops, n_stops, "stops"));
    RWKV_TRY(needs(n_bytes, n_stops, "n_bytes"));
    std::vector<std::string> texts;
    for (size_t i = 0; i < n_stops; ++i) {
      RWKV_TRY(needs(stops[i], "a stop string"));
      texts.emplace_back(view(stops[i], n_bytes[i]));
    }
    return session->session->set_stop_strings(std::move(texts));
  });
}

rwkv_status rwkv_generate(rwkv_session* session, const rwkv_sampler_options* options,
                          size_t max_tokens, rwkv_piece_callback callback, void* user,
                          rwkv_stop_reason* why) {
  return guarded("rwkv_generate", [&]() -> Status {
    RWKV_TRY(needs(session, "session"));
    RWKV_TRY(callback ? Status() : usage_error("callback is NULL"));
    RWKV_TRY(session->session->can_generate());
    if (options) {
      RWKV_TRY(session->session->set_sampler(sampler_options(*options)));
    }
    const auto on_piece = [&](const Piece& piece) {
      // An empty view may have no address, but C functions need one.
      const char* text = piece.text.empty() ? "" : piece.text.data();
      return callback(user, piece.token, text, piece.text.size()) == 0;
    };
    RWKV_ASSIGN(const StopReason reason, session->session->generate(max_tokens, on_piece));
    if (why) {
      *why = stop_reason(reason);
    }
    return {};
  });
}
