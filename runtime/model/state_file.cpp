#include "runtime/model/state_file.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cmath>
#include <cstring>

#include "formats/arch/versions.h"
#include "formats/base/checksum.h"
#include "formats/base/little_endian.h"
#include "formats/container/file_kind.h"
#include "formats/container/safetensors_reader.h"

namespace rwkv::edge {
namespace {

constexpr char kMagic[8] = {'R', 'W', 'K', 'V', 'S', 'F', '0', '1'};
constexpr char kStateMagic[8] = {'R', 'W', 'K', 'V', 'S', 'T', '0', '1'};  // of State::save()
constexpr unsigned char kPickleProtocol = 0x80;
constexpr size_t kNameBytes = 8;

// The fixed part of a file, in this order after the magic: XXH64 of all that follows, name of the
// version, sizes of the model, its id, then how much follows of state, logits and history.
struct Header {
  uint64_t hash = 0;
  std::array<char, kNameBytes> version{};
  uint64_t n_layer = 0, n_embd = 0, dim_att = 0, n_head = 0, head_size = 0, n_vocab = 0;
  uint64_t model_id = 0;
  uint64_t n_state = 0, n_logits = 0, n_history = 0;
};
constexpr size_t kHashed = sizeof(kMagic) + sizeof(uint64_t);  // bytes before the hashed part
constexpr size_t kHeaderBytes = kHashed + kNameBytes + 10 * sizeof(uint64_t);

std::array<uint64_t*, 10> numbers_of(Header& header) {
  return {&header.n_layer, &header.n_embd,   &header.dim_att, &header.n_head,   &header.head_size,
          &header.n_vocab, &header.model_id, &header.n_state, &header.n_logits, &header.n_history};
}

Header header_of(const State& state) {
  const ModelConfig& config = state.config();
  Header header;
  const std::string_view name = version_traits(config.version).name;
  std::copy_n(name.begin(), std::min(name.size(), kNameBytes), header.version.begin());
  header.n_layer = config.n_layer;
  header.n_embd = config.n_embd;
  header.dim_att = config.dim_att;
  header.n_head = config.n_head;
  header.head_size = config.head_size;
  header.n_vocab = config.n_vocab;
  header.model_id = state.model_id();
  header.n_state = state.values().size();
  return header;
}

// "v7, 24 layers x 2048, 32 heads of 64, vocabulary 65536", of a model or as a file says.
std::string describe(const Header& header) {
  std::string name;
  for (const char c : header.version) {
    if (c >= ' ' && c <= '~') {
      name += c;
    }
  }
  return fmt::format("{}, {} layers x {}, {} heads of {}, vocabulary {}", name, header.n_layer,
                     header.n_embd, header.n_head, header.head_size, header.n_vocab);
}

bool is_same_shape(const Header& a, const Header& b) {
  return a.version == b.version && a.n_layer == b.n_layer && a.n_embd == b.n_embd &&
         a.dim_att == b.dim_att && a.n_head == b.n_head && a.head_size == b.head_size &&
         a.n_vocab == b.n_vocab && a.n_state == b.n_state;
}

bool are_finite(std::span<const float> values) {
  return std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); });
}

// The header of `bytes`, of which there are enough for the fixed part.
Header parse(const std::byte* bytes) {
  Header header;
  header.hash = load_le<uint64_t>(bytes + sizeof(kMagic));
  std::memcpy(header.version.data(), bytes + kHashed, kNameBytes);
  const std::byte* at = bytes + kHashed + kNameBytes;
  for (uint64_t* number : numbers_of(header)) {
    *number = load_le<uint64_t>(at);
    at += sizeof(uint64_t);
  }
  return header;
}

// Everything is compared with the model and the length of the file before memory is taken.
Status check(const Header& found, const State& state, uint64_t file_size) {
  const Header expected = header_of(state);
  if (!is_same_shape(found, expected)) {
    return bad_input(
        "the state was saved by another model: expected {}, found {}; save it again with this "
        "model",
        describe(expected), describe(found));
  }
  if (found.model_id != expected.model_id) {
    return bad_input(
        "the state was saved by another model of this shape, with other weights or another codec; "
        "save it again with this one");
  }
  const bool fits = (found.n_logits == 0 || found.n_logits == expected.n_vocab) &&
                    found.n_history <= kMaxHistoryBytes;
  const uint64_t n_floats = fits ? found.n_state + found.n_logits : 0;
  const uint64_t size = kHeaderBytes + n_floats * sizeof(float) + found.n_history;
  if (!fits || size != file_size) {
    return bad_input(
        "the saved state is damaged: expected {} bytes, found {}; save it again with this model",
        size, file_size);
  }
  return {};
}

Result<StateFileContents> load_saved(const InputFile& file, State& state) {
  std::vector<std::byte> bytes(kHeaderBytes);
  if (file.size() < kHeaderBytes) {
    return bad_input(
        "the saved state is damaged: expected at least {} bytes, found {}; save it again with this "
        "model",
        kHeaderBytes, file.size());
  }
  RWKV_TRY(file.read_at(0, bytes));
  const Header header = parse(bytes.data());
  RWKV_TRY(check(header, state, file.size()));
  bytes.resize(file.size());
  RWKV_TRY(file.read_at(0, bytes));
  if (xxh64(std::span(bytes).subspan(kHashed)) != header.hash) {
    return bad_input(
        "the saved state is damaged: its checksum does not match; save it again with this model");
  }
  StateFileContents contents;
  std::vector<float> values(header.n_state);
  contents.logits.resize(header.n_logits);
  const std::byte* at = bytes.data() + kHeaderBytes;
  std::memcpy(values.data(), at, values.size() * sizeof(float));
  at += values.size() * sizeof(float);
  if (!contents.logits.empty()) {
    std::memcpy(contents.logits.data(), at, contents.logits.size() * sizeof(float));
  }
  at += contents.logits.size() * sizeof(float);
  contents.history.assign(reinterpret_cast<const char*>(at), header.n_history);
  if (!are_finite(values) || !are_finite(contents.logits)) {
    return bad_input("the saved state has values that are not finite; save it again");
  }
  std::copy(values.begin(), values.end(), state.values().begin());
  return contents;
}

// The bytes of State::save(), as programs may have stored them.
Status load_bytes(const InputFile& file, State& state) {
  if (file.size() != state.saved_bytes()) {
    return bad_input(
        "the state was saved by another model: expected {} bytes, found {}; save it again with "
        "this model",
        state.saved_bytes(), file.size());
  }
  std::vector<std::byte> bytes(file.size());
  RWKV_TRY(file.read_at(0, bytes));
  return state.load(bytes);
}

// How a tuned state lies in the files of the model's version; null if the version has none.
const TensorSpec* tuned_state_spec(const ModelConfig& config) {
  for (const TensorSpec& spec : version_traits(config.version).tensors()) {
    if (spec.role == Role::InitialState && (spec.versions & only(config.version)) != 0) {
      return &spec;
    }
  }
  return nullptr;
}

// N of "blocks.N.att.time_state", -1 for other names.
int64_t block_of(std::string_view name) {
  constexpr std::string_view kStart = "blocks.";
  constexpr std::string_view kEnd = ".att.time_state";
  if (!name.starts_with(kStart) || !name.ends_with(kEnd) ||
      name.size() <= kStart.size() + kEnd.size()) {
    return -1;
  }
  const std::string_view digits =
      name.substr(kStart.size(), name.size() - kStart.size() - kEnd.size());
  int64_t block = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), block);
  return error == std::errc() && end == digits.data() + digits.size() ? block : -1;
}

// One block's tuned state, [head][value][key] in the file, to the model's own order.
Status load_tuned_block(const TensorSource& source, size_t index, Layout layout, uint64_t n,
                        std::span<float> to) {
  const TensorInfo& info = source.tensors()[index];
  std::vector<std::byte> bytes;
  RWKV_TRY(source.read(index, bytes));
  std::vector<float> values(to.size());
  decode_to_f32(info.dtype, bytes, values);
  if (!are_finite(values)) {
    return bad_input("tensor '{}' has values that are not finite; take an earlier state",
                     info.name);
  }
  for (size_t i = 0; i < values.size(); ++i) {
    const size_t head = i / (n * n);
    const size_t row = i / n % n;
    const size_t col = i % n;
    to[layout == Layout::Transposed ? (head * n + col) * n + row : i] = values[i];
  }
  return {};
}

Status load_tuned(const std::string& path, State& state) {
  RWKV_ASSIGN(const std::unique_ptr<TensorSource> source, open_safetensors(path));
  const ModelConfig& config = state.config();
  const TensorSpec* spec = tuned_state_spec(config);
  if (!spec) {
    return bad_input("{}: {} models have no tuned states; v5.2, v6 and v7 have; remove --state",
                     path, version_label(config));
  }
  const std::vector<uint64_t> shape = {config.n_head, config.head_size, config.head_size};
  State loaded = state;
  std::fill(loaded.values().begin(), loaded.values().end(), 0.0f);
  std::vector<bool> is_there(config.n_layer);
  for (size_t i = 0; i < source->tensors().size(); ++i) {
    const TensorInfo& info = source->tensors()[i];
    const int64_t block = block_of(info.name);
    if (block < 0) {
      return bad_input(
          "{}: expected a state, so only tensors blocks.N.att.time_state, found '{}'; a whole "
          "checkpoint is converted with rwkv-press",
          path, info.name);
    }
    if (static_cast<uint64_t>(block) >= config.n_layer || info.shape != shape ||
        !traits(info.dtype).is_float) {
      return bad_input(
          "{}: tensor '{}' is {} {}: expected floats {} in blocks 0 to {} of this model ({}); the "
          "state belongs to another model: take the model that it was tuned for",
          path, info.name, traits(info.dtype).name, shape_to_string(info.shape),
          shape_to_string(shape), config.n_layer - 1, rwkv::describe(config));
    }
    const std::span<float> to(loaded.layer(static_cast<size_t>(block)).wkv, config.wkv_floats());
    RWKV_TRY(load_tuned_block(*source, i, spec->layout, config.head_size, to).in(path));
    is_there[static_cast<size_t>(block)] = true;
  }
  const auto missing = std::find(is_there.begin(), is_there.end(), false);
  if (missing != is_there.end()) {
    return bad_input(
        "{}: tensor 'blocks.{}.att.time_state' is missing; this model has {} blocks, so the state "
        "belongs to another one: take the model that it was tuned for",
        path, missing - is_there.begin(), config.n_layer);
  }
  std::copy(loaded.values().begin(), loaded.values().end(), state.values().begin());
  return {};
}

}  // namespace

Status check_state_file(const std::string& path) {
  return check_replaced_kind(path, "a saved state", [](std::string_view head) {
    return head.starts_with(std::string_view(kMagic, sizeof(kMagic))) ||
           head.starts_with(std::string_view(kStateMagic, sizeof(kStateMagic)));
  });
}

Status save_state_file(const std::string& path, OutputFile::Existing existing, const State& state,
                       std::span<const float> logits, std::string_view history) {
  if (existing == OutputFile::Existing::Replace) {
    RWKV_TRY(check_state_file(path));
  }
  if (history.size() > kMaxHistoryBytes) {
    return usage_error(
        "{}: a history of {} bytes is too long for a state file: expected at most {}", path,
        history.size(), kMaxHistoryBytes);
  }
  Header header = header_of(state);
  header.n_logits = logits.size();
  header.n_history = history.size();
  std::array<std::byte, kHeaderBytes> bytes{};
  std::memcpy(bytes.data(), kMagic, sizeof(kMagic));
  std::memcpy(bytes.data() + kHashed, header.version.data(), kNameBytes);
  std::byte* at = bytes.data() + kHashed + kNameBytes;
  for (const uint64_t* number : numbers_of(header)) {
    store_le<uint64_t>(at, *number);
    at += sizeof(uint64_t);
  }
  const std::span<const std::byte> text = std::as_bytes(std::span(history.data(), history.size()));
  StreamingXxh64 hash;
  hash.update(std::span(bytes).subspan(kHashed));
  hash.update(std::as_bytes(state.values()));
  hash.update(std::as_bytes(logits));
  hash.update(text);
  store_le<uint64_t>(bytes.data() + sizeof(kMagic), hash.digest());
  RWKV_ASSIGN(const auto file, OutputFile::create(path, existing));
  RWKV_TRY(file->write(bytes));
  RWKV_TRY(file->write(std::as_bytes(state.values())));
  RWKV_TRY(file->write(std::as_bytes(logits)));
  RWKV_TRY(file->write(text));
  return file->commit();
}

Result<StateFileContents> load_state_file(const std::string& path, State& state) {
  RWKV_ASSIGN(const auto file, InputFile::open(path));
  std::array<std::byte, 16> head{};
  RWKV_TRY(file->read_at(0, std::span(head).first(std::min<uint64_t>(head.size(), file->size()))));
  const auto starts_with = [&](const char(&magic)[8]) {
    return std::memcmp(head.data(), magic, sizeof(magic)) == 0;
  };
  if (starts_with(kMagic)) {
    auto contents = load_saved(*file, state);
    return contents.ok() ? std::move(contents) : contents.status().in(path);
  }
  if (starts_with(kStateMagic)) {
    RWKV_TRY(load_bytes(*file, state).in(path));
    return StateFileContents{};
  }
  if (head[8] == std::byte{'{'} && load_le<uint64_t>(head.data()) < file->size()) {
    RWKV_TRY(load_tuned(path, state));
    return StateFileContents{};
  }
  const bool is_pickle = (head[0] == std::byte{'P'} && head[1] == std::byte{'K'}) ||
                         head[0] == std::byte{kPickleProtocol};
  if (is_pickle) {
    return bad_input(
        "{}: expected a saved state or a .safetensors file of one, found a .pth file; make one "
        "with "
        "'rwkv-press export STATE.pth -o STATE.safetensors'",
        path);
  }
  return bad_input(
      "{}: expected a state saved by --save-state or a .safetensors file of time_state tensors, "
      "found a file of another kind; name a state",
      path);
}

}  // namespace rwkv::edge
