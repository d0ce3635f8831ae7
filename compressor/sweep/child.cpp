#include "compressor/sweep/child.h"

#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "compressor/stages/pipe.h"

namespace rwkv::press {
namespace {

constexpr size_t kKeptWords = 2000;  // bytes
constexpr const char* kExecutable = "/proc/self/exe";

std::vector<char*> pointers(const std::vector<std::string>& texts) {
  std::vector<char*> all;
  all.reserve(texts.size() + 1);
  for (const std::string& text : texts) {
    all.push_back(const_cast<char*>(text.c_str()));
  }
  all.push_back(nullptr);
  return all;
}

// Our environment, with the variables in `added` replaced.
std::vector<std::string> environment_with(const std::vector<std::string>& added) {
  std::vector<std::string> all = added;
  for (char** entry = environ; *entry != nullptr; ++entry) {
    const std::string text = *entry;
    const std::string name = text.substr(0, text.find('=') + 1);
    const bool is_new = std::none_of(added.begin(), added.end(), [&](const std::string& other) {
      return other.starts_with(name);
    });
    if (is_new) {
      all.push_back(text);
    }
  }
  return all;
}

// Between fork and exec only system calls are allowed.
[[noreturn]] void become(pid_t parent, const Pipe& in, const Pipe& out, const Pipe& err,
                         char** arguments, char** environment) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) {
    ::_exit(1);  // the parent died in the meantime
  }
  ::dup2(in.read, STDIN_FILENO);
  ::dup2(out.write, STDOUT_FILENO);
  ::dup2(err.write, STDERR_FILENO);
  ::execve(kExecutable, arguments, environment);
  ::_exit(127);
}

// A child that ended early does not read everything. That is no failure here: its exit status
// tells.
void write_all(int fd, const std::string& text) {
  size_t done = 0;
  while (done < text.size()) {
    const ssize_t n = ::write(fd, text.data() + done, text.size() - done);
    if (n < 0 && errno == EINTR) {
      continue;
    }
    if (n <= 0) {
      return;
    }
    done += static_cast<size_t>(n);
  }
}

}  // namespace

Result<Child> Child::start(const std::vector<std::string>& arguments,
                           const std::vector<std::string>& environment, const std::string& input) {
  RWKV_ASSIGN(const Pipe in, make_pipe());
  RWKV_ASSIGN(const Pipe out, make_pipe());
  RWKV_ASSIGN(const Pipe err, make_pipe());
  std::vector<std::string> words = {"rwkv-press"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  const std::vector<std::string> all = environment_with(environment);
  const std::vector<char*> argv = pointers(words);
  const std::vector<char*> envp = pointers(all);
  const pid_t parent = ::getpid();
  const pid_t pid = ::fork();
  if (pid == 0) {
    become(parent, in, out, err, const_cast<char**>(argv.data()), const_cast<char**>(envp.data()));
  }
  const int error = errno;
  if (pid < 0) {
    close_both(in);
    close_both(out);
    close_both(err);
    return failed("cannot start a process: {}", std::strerror(error));
  }
  Child child;
  child.pid_ = pid;
  child.out_ = out.read;
  child.err_ = err.read;
  ::close(in.read);
  ::close(out.write);
  ::close(err.write);
  write_all(in.write, input);
  ::close(in.write);
  ::fcntl(child.out_, F_SETFL, O_NONBLOCK);
  ::fcntl(child.err_, F_SETFL, O_NONBLOCK);
  return child;
}

Child::Child(Child&& other) noexcept
    : pid_(std::exchange(other.pid_, 0)),
      out_(std::exchange(other.out_, -1)),
      err_(std::exchange(other.err_, -1)),
      partial_(std::move(other.partial_)),
      last_words_(std::move(other.last_words_)) {}

Child::~Child() {
  if (pid_ > 0) {
    // Politely first, so that it takes its unfinished files away.
    constexpr int kMoments = 200;
    constexpr useconds_t kMoment = 10'000;
    ::kill(pid_, SIGTERM);
    int ended = 0;
    for (int i = 0; i < kMoments && ended == 0; ++i) {
      ended = ::waitpid(pid_, nullptr, WNOHANG);
      if (ended == 0) {
        ::usleep(kMoment);
      }
    }
    if (ended == 0) {
      ::kill(pid_, SIGKILL);
      ::waitpid(pid_, nullptr, 0);
    }
  }
  for (const int fd : {out_, err_}) {
    if (fd >= 0) {
      ::close(fd);
    }
  }
}

bool Child::drain(int& fd, std::string& text) {
  std::array<char, 4096> buffer{};
  while (fd >= 0) {
    const ssize_t n = ::read(fd, buffer.data(), buffer.size());
    if (n > 0) {
      text.append(buffer.data(), static_cast<size_t>(n));
    } else if (n == 0 || (errno != EINTR && errno != EAGAIN)) {
      ::close(fd);
      fd = -1;
    } else if (errno == EAGAIN) {
      return true;
    }
  }
  return false;
}

bool Child::read(const std::function<void(const std::string&)>& line) {
  drain(out_, partial_);
  for (size_t end = partial_.find('\n'); end != std::string::npos; end = partial_.find('\n')) {
    const std::string first = partial_.substr(0, end);
    partial_.erase(0, end + 1);
    line(first);
  }
  drain(err_, last_words_);
  if (last_words_.size() > kKeptWords) {
    last_words_.erase(0, last_words_.size() - kKeptWords);
  }
  return out_ >= 0 || err_ >= 0;
}

Status Child::wait() {
  int status = 0;
  while (::waitpid(pid_, &status, 0) < 0 && errno == EINTR) {
  }
  pid_ = 0;
  std::string words = last_words_;
  while (words.ends_with('\n')) {
    words.pop_back();
  }
  const size_t last = words.rfind('\n');
  const std::string line = last == std::string::npos ? words : words.substr(last + 1);
  if (WIFSIGNALED(status)) {
    const int signal = WTERMSIG(status);
    return failed("its process was ended by signal {} ({}){}{}", signal, strsignal(signal),
                  signal == SIGKILL ? "; perhaps memory ran out" : "",
                  line.empty() ? "" : "; it said last: " + line);
  }
  const int code = WIFEXITED(status) ? WEXITSTATUS(status) : 1;
  return code == 0 ? Status()
                   : failed("{}", line.empty() ? fmt::format("its process ended with "
                                                             "exit code {}",
                                                             code)
                                               : line);
}

}  // namespace rwkv::press
