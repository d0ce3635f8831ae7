// A program on a real pseudo-terminal, driven as a person would.
#pragma once

#include <sys/types.h>

#include <string>
#include <vector>

namespace rwkv::test {

/// A program on a terminal of its own, rwkv-edge if none is named. It ends with the object in any
/// case.
class Terminal {
 public:
  explicit Terminal(const std::vector<std::string>& arguments, unsigned short columns = 80);
  /// The same for another program, by its path.
  Terminal(const std::string& program, const std::vector<std::string>& arguments,
           unsigned short columns);
  ~Terminal();
  Terminal(const Terminal&) = delete;
  Terminal& operator=(const Terminal&) = delete;

  void type(const std::string& bytes) const;
  void resize(unsigned short columns) const;
  /// Waits until the program has waited for a message `n` times in all; false if it never does.
  bool reaches_prompt(size_t n);
  /// Waits until at least `n_bytes` of the present answer are on the screen.
  bool shows_answer(size_t n_bytes);
  /// Waits until `text` is on the screen.
  bool shows(const std::string& text);
  /// Waits until something more is on the screen.
  bool shows_more();
  /// Types a message and Enter; what came on the screen until the next prompt.
  std::string ask(const std::string& message);
  /// Waits for its end: the exit code, or -1 and its signal as 128 + signal.
  int wait();
  const std::string& screen() const { return screen_; }

 private:
  size_t n_prompts() const;
  /// The answer that the program is writing, or has just written.
  std::string answer() const;
  /// Reads what there is within a moment; false at the end.
  bool read_some();
  template <typename Condition>
  bool wait_until(const Condition& is_so);

  int fd_ = -1;
  pid_t pid_ = 0;
  bool is_open_ = true;
  std::string screen_;
};

}  // namespace rwkv::test
