// Saved conversations: a small GGUF file with the turns as metadata and the states as tensors.
#include <algorithm>
#include <filesystem>

#include "formats/base/file.h"
#include "formats/container/file_kind.h"
#include "formats/container/gguf_reader.h"
#include "formats/container/gguf_writer.h"
#include "runtime/text/conversation.h"

namespace rwkv::edge {
namespace {

constexpr const char* kArchitecture = "general.architecture";
constexpr const char* kArchitectureName = "rwkv-chat";
constexpr const char* kFormat = "chat.format_version";
constexpr uint32_t kFormatVersion = 1;
constexpr const char* kTemplate = "chat.template";
constexpr const char* kSystem = "chat.system";
constexpr const char* kUser = "chat.user";
constexpr const char* kAnswer = "chat.answer";
constexpr const char* kAttempt = "chat.attempt";
constexpr const char* kSeed = "chat.seed";
constexpr const char* kSeen = "chat.seen";
constexpr const char* kState = "state";
constexpr const char* kSystemState = "system_state";

/// The bytes of a tensor of bytes; nothing if there is none of that name.
std::vector<std::byte> bytes_of(const GgufFile& file, std::span<const std::byte> bytes,
                                const char* name) {
  const GgufTensor* tensor = file.find(name);
  if (!tensor) {
    return {};
  }
  const auto here = bytes.subspan(tensor->offset, tensor->n_bytes);
  return {here.begin(), here.end()};
}

/// Whether a file that begins so was written by Conversation::save(), which writes that key first.
bool is_conversation(std::string_view head) {
  constexpr size_t kTypeAndLength = sizeof(uint32_t) + sizeof(uint64_t);
  const std::string_view key = kArchitecture;
  const size_t at = head.find(key);
  return at != std::string_view::npos &&
         head.substr(std::min(at + key.size() + kTypeAndLength, head.size()))
             .starts_with(kArchitectureName);
}

/// A conversation as it lies in a file, checked for itself.
struct Saved {
  const ChatTemplate* chat_template = nullptr;
  std::string system, seen;
  std::vector<Turn> turns;
  std::vector<size_t> attempts;
  uint64_t seed = 0;
};

Result<Saved> read_metadata(const GgufMetadata& metadata) {
  RWKV_ASSIGN(const std::string architecture, metadata.get_string(kArchitecture));
  if (architecture != kArchitectureName) {
    return bad_input("expected a saved conversation, found a file of '{}'; name a file of /save",
                     architecture);
  }
  RWKV_ASSIGN(const uint64_t version, metadata.get_u64(kFormat));
  if (version != kFormatVersion) {
    return bad_input(
        "expected format version {}, found {}; use the version of rwkv-edge that saved it",
        kFormatVersion, version);
  }
  Saved saved;
  RWKV_ASSIGN(const std::string name, metadata.get_string(kTemplate));
  const auto chat_template = chat_template_named(name, kTemplate);
  if (!chat_template.ok()) {
    return bad_input("{}", chat_template.status().message());
  }
  saved.chat_template = chat_template.value();
  RWKV_ASSIGN(saved.system, metadata.get_string(kSystem));
  RWKV_ASSIGN(saved.seen, metadata.get_string(kSeen));
  RWKV_ASSIGN(saved.seed, metadata.get_u64(kSeed));
  RWKV_ASSIGN(const auto* users, metadata.get_strings(kUser));
  RWKV_ASSIGN(const auto* answers, metadata.get_strings(kAnswer));
  RWKV_ASSIGN(const auto* attempts, metadata.get_u64s(kAttempt));
  if (answers->size() != users->size() || attempts->size() != users->size()) {
    return bad_input(
        "expected as many answers and attempts as messages, found {}, {} and {}; the file is "
        "damaged, save it again",
        answers->size(), attempts->size(), users->size());
  }
  for (size_t i = 0; i < users->size(); ++i) {
    saved.turns.push_back({(*users)[i], (*answers)[i]});
  }
  saved.attempts.assign(attempts->begin(), attempts->end());
  return saved;
}

}  // namespace

Status Conversation::save(const std::string& path) const {
  RWKV_TRY(check_replaced_kind(path, "a saved conversation", is_conversation));
  GgufMetadata metadata;
  std::vector<std::string> users, answers;
  for (const Turn& turn : turns_) {
    users.push_back(turn.user);
    answers.push_back(turn.answer);
  }
  metadata.set(kArchitecture, GgufValue::string(kArchitectureName));
  metadata.set(kFormat, GgufValue::u32(kFormatVersion));
  metadata.set(kTemplate, GgufValue::string(chat_template().name));
  metadata.set(kSystem, GgufValue::string(system_));
  metadata.set(kUser, GgufValue::strings(std::move(users)));
  metadata.set(kAnswer, GgufValue::strings(std::move(answers)));
  metadata.set(kAttempt, GgufValue::u64s({attempts_.begin(), attempts_.end()}));
  metadata.set(kSeed, GgufValue::u64(options_.sampler.seed));
  metadata.set(kSeen, GgufValue::string(seen_));
  RWKV_ASSIGN(const Moment now, present());
  std::vector<GgufTensorPlan> tensors;
  const std::pair<const char*, std::span<const std::byte>> states[] = {{kState, now.state},
                                                                       {kSystemState, base_.state}};
  for (const auto& [name, state] : states) {
    if (!state.empty()) {
      tensors.push_back({name, GgmlType::I8, {state.size()}, state.size()});
    }
  }
  RWKV_ASSIGN(const auto writer, GgufWriter::create(path, OutputFile::Existing::Replace,
                                                    std::move(metadata), std::move(tensors)));
  for (const auto& [name, state] : states) {
    RWKV_TRY(writer->append(state));
  }
  return writer->finish();
}

Status Conversation::load(const std::string& path, bool keep_seed) {
  RWKV_ASSIGN(const auto mapping, MappedFile::open(path));
  RWKV_ASSIGN(const GgufFile file, GgufFile::parse(mapping->bytes(), path));
  auto read = read_metadata(file.metadata());
  if (!read.ok()) {
    return read.status().in(path);
  }
  Saved saved = read.take();
  Moment now, base;
  now.state = bytes_of(file, mapping->bytes(), kState);
  now.is_empty = now.state.empty();
  now.seen = saved.seen;
  base.state = bytes_of(file, mapping->bytes(), kSystemState);
  base.is_empty = base.state.empty();
  // Both are tried before anything changes: of the first only its fitting the model matters.
  RWKV_ASSIGN(const Moment before, present());
  for (const Moment* moment : {&base, &now}) {
    if (const Status status = go_to(*moment); !status.ok()) {
      RWKV_TRY(go_to(before));
      return status.in(path);
    }
  }
  const auto& stops = saved.chat_template->stops;
  RWKV_TRY(session_->set_stop_strings({stops.begin(), stops.end()}));
  options_.chat_template = saved.chat_template;
  options_.sampler.seed = keep_seed ? options_.sampler.seed : saved.seed;
  system_ = std::move(saved.system);
  turns_ = std::move(saved.turns);
  attempts_ = std::move(saved.attempts);
  base_ = std::move(base);
  // Only the present state was saved; earlier ones are read again if they are needed.
  Moment not_kept;
  not_kept.is_empty = false;
  moments_.assign(turns_.size(), not_kept);
  return {};
}

}  // namespace rwkv::edge
