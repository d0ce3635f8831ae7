#include "tests/cli/harmless_faults.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <string>

namespace rwkv::test {
namespace {

// Failures after which a command may well succeed. Its outputs are compared all the same.
struct Harmless {
  std::optional<Call> call;  // none: any
  const char* file;  // the end of its name; with * in place of any end, with ? of a last name
  const char* reason;
};
constexpr Harmless kHarmless[] = {
    {Call::Close, "", "an output is on storage before it is closed, an input has been read"},
    {Call::Lock, "", "file systems without locks are used too; leftovers are then only named"},
    {Call::Access, "", "an output without the mode of its predecessor is closed to all others"},
    {Call::List, "", "leftovers of outputs are not found, and stay for the next run"},
    {Call::Open, "/in/text.txt", "the look whether a text is binary; who reads it fails"},
    {Call::Read, "/in/text.txt", "the same"},
    {Call::Open, "/(names)", "as with lists; and a point gets the name that it had"},
    {Call::Open, "/sweep.json", "the lock says whose the folder is; the manifest says it twice"},
    {Call::Read, "/sweep.lock", "who cannot read that it is the last leaves what is shared"},
    {std::nullopt, "/shared/spectrum-*", "what cannot be kept for other points is computed again"},
    {Call::Sync, "/shared", "the same"},
    {Call::Open, "/shared", "as with /out; and what stays in it is cleared by the next run"},
    {Call::Open, "/(unnamed)", "file systems without unnamed files are used too: a name is taken"},
    {Call::Remove, ".unfinished-*", "the probe of the folder; the output itself takes it away"},
    {Call::Open, "/log.txt", "the log of a point is for readers; its result says what counts"},
    {Call::Write, "/log.txt", "the same"},
    {Call::Open, "/step-*", "passed over for the snapshot before it, which leads to the same"},
    {Call::Open, ".ids16", "ids that cannot be read are made again from the text"},
    {Call::Map, ".ids16", "the same"},
    {Call::Open, "/loss.csv", "the log of a training is for readers"},
    {Call::Read, "/loss.csv", "the same"},
    {Call::Remove, "/step-*", "an old snapshot stays; newer ones are found all the same"},
    {Call::Open, "/points/?", "what keeps a name through a power cut: the file has it already"},
    {Call::Sync, "/points/?", "the same"},
    {Call::Remove, "/m.gguf.work/*", "stages that stay are those of the same conversion"},
    {Call::Remove, "/m.gguf.work", "the same"},
    {Call::Open, "/streamed.gguf", "file systems without direct reads are used too"},
    {Call::Read, "/streamed.gguf", "the same; and what is read ahead may not be needed any more"},
    {Call::Write, "/log.jsonl", "the log ends with a warning; the conversion goes on"},
    {Call::Remove, "/shared/*", "it stays, and is cleared by the next run"},
    {Call::Remove, "/points/*", "files of a point are replaced, its claim is taken over"},
};

}  // namespace

bool is_harmless(const FaultPlan& plan) {
  return std::any_of(std::begin(kHarmless), std::end(kHarmless), [&](const Harmless& each) {
    const std::string struck = plan.struck;
    std::string file = each.file;
    bool is_named = struck.ends_with(file);
    if (file.ends_with('*') || file.ends_with('?')) {
      const bool is_last = file.back() == '?';
      file.pop_back();
      const size_t at = struck.find(file);
      is_named = at != std::string::npos &&
                 (!is_last || struck.find('/', at + file.size()) == std::string::npos);
    }
    return (!each.call || *each.call == plan.call) && is_named;
  });
}

}  // namespace rwkv::test
