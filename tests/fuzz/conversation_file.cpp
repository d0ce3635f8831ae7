// Any bytes as a saved conversation: loaded, and the chat goes on, or refused with the conversation
// as it was.
#include <cstdint>
#include <cstdlib>
#include <memory>

#include "runtime/text/conversation.h"
#include "tests/fuzz/memory_file.h"
#include "tests/fuzz/seed_models.h"

using namespace rwkv;

namespace {

void require(bool condition) {
  if (!condition) {
    std::abort();
  }
}

std::shared_ptr<const edge::Model> open_model() {
  const test::ScratchFolder folder;
  auto model = edge::Model::open(test::write_tiny_model(folder, test::conversation_model()));
  require(model.ok());
  return model.take();
}

std::unique_ptr<edge::Conversation> begin_conversation() {
  static const auto model = open_model();
  auto session = edge::Session::create(model, {});
  require(session.ok());
  edge::ConversationOptions options;
  options.chat_template = &model->chat_template();
  options.max_tokens = 2;
  auto conversation = edge::Conversation::create(session.take(), options);
  require(conversation.ok());
  return conversation.take();
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const auto conversation = begin_conversation();
  const test::MemoryFile file(std::as_bytes(std::span(data, size)));
  if (!conversation->load(file.path(), /*keep_seed=*/false).ok()) {
    require(conversation->turns().empty() && conversation->system().empty());
    return 0;
  }
  const auto on_read = [](size_t, size_t) { return true; };
  const auto on_text = [](std::string_view) { return true; };
  // What a file says may be long; a part of it is enough.
  const size_t n_turns = conversation->turns().size();
  if (n_turns > 0 && n_turns < 8) {
    (void)conversation->undo(on_read).ok();
    (void)conversation->retry(on_read, on_text).ok();
  }
  (void)conversation->say("more", on_read, on_text).ok();
  return 0;
}
