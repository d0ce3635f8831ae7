#include "compressor/train/process_group.h"

#include <ATen/core/grad_mode.h>
#include <torch/csrc/utils/tensor_flatten.h>

#include <chrono>
#include <cstdlib>
#include <numeric>
#include <thread>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include "compressor/numerics/tensor_ops.h"
#include "compressor/train/launcher.h"

namespace rwkv::press {
namespace {

// LibTorch from 2.4 on prefers libuv, without which Debian builds it; before 2.1 there is no
// choice.
template <typename Options>
auto use_plain_sockets(Options& options, int) -> decltype(options.useLibUV = false, void()) {
  options.useLibUV = false;
}

template <typename Options>
void use_plain_sockets(Options&, long) {}

constexpr size_t kBucketBytes = size_t{25} << 20;
constexpr std::chrono::milliseconds kPoll{20};

// Empty if it is not set.
std::string variable(const char* name) {
  const char* text = std::getenv(name);
  return text == nullptr ? "" : text;
}

// The message of the library, without the stack trace after it.
std::string words(const std::exception& error) {
  const auto* with_trace = dynamic_cast<const c10::Error*>(&error);
  const std::string text = with_trace ? with_trace->what_without_backtrace() : error.what();
  return text.substr(0, text.find('\n'));
}

std::shared_ptr<::gloo::transport::Device> find_device(const std::string& master) {
  const std::string names = variable("GLOO_SOCKET_IFNAME");
  if (!names.empty()) {
    return c10d::ProcessGroupGloo::createDeviceForInterface(names.substr(0, names.find(',')));
  }
  const bool is_here = master == "localhost" || master == "::1" || master.starts_with("127.");
  return is_here ? c10d::ProcessGroupGloo::createDeviceForHostname("127.0.0.1")
                 : c10d::ProcessGroupGloo::createDefaultDevice();
}

// Calls `operation` with flat tensors on the CPU: a large one in place, small ones of one type, and
// those of another device, as a copy that is copied back. The grouping depends only on devices,
// types and shapes.
template <typename Operation>
void in_buckets(const std::vector<at::Tensor>& tensors, const Operation& operation) {
  const at::NoGradGuard no_grad;
  for (size_t next = 0; next < tensors.size();) {
    std::vector<at::Tensor> flat;
    for (size_t n_bytes = 0; next < tensors.size(); ++next) {
      n_bytes += tensors[next].nbytes();
      const bool is_alike = flat.empty() || (tensors[next].dtype() == flat[0].dtype() &&
                                             tensors[next].device() == flat[0].device());
      if (!flat.empty() && (n_bytes > kBucketBytes || !is_alike)) {
        break;
      }
      flat.push_back(tensors[next].detach().view(-1));
    }
    const at::Tensor joined = flat.size() == 1 ? flat[0] : at::cat(flat);
    const at::Tensor bucket = joined.cpu();
    const bool is_copy = flat.size() > 1 || !joined.is_cpu();
    if (bucket.numel() > 0) {
      operation(bucket);
    }
    const auto results = torch::utils::unflatten_dense_tensors(bucket, flat);
    for (size_t i = 0; is_copy && i < flat.size(); ++i) {
      flat[i].copy_(results[i]);
    }
  }
}

Status check(const std::vector<at::Tensor>& tensors, bool has_to_add) {
  for (const at::Tensor& tensor : tensors) {
    const bool fits = tensor.defined() && tensor.is_contiguous();
    if (!fits || (has_to_add && tensor.dtype() != at::kFloat && tensor.dtype() != at::kDouble)) {
      return usage_error("ranks exchange contiguous tensors, and sum f32 and f64 only");
    }
  }
  return {};
}

}  // namespace

struct ProcessGroup::Connection {
  int rank = 0;
  int size = 1;
  std::string address;
  int port = 0;  // of rank 0, at the address
  std::chrono::seconds timeout{};
  c10::intrusive_ptr<c10d::Store> store;
  c10::intrusive_ptr<c10d::ProcessGroupGloo> group;
  Status failure;  // of the first operation that failed

  Status read_environment() {
    RWKV_ASSIGN(const int seconds,
                environment_number(variable, "RWKV_PRESS_RANK_TIMEOUT", 1, 86400, 300));
    timeout = std::chrono::seconds(seconds);
    RWKV_ASSIGN(const Launch launch, read_launch(variable));
    rank = launch.rank;
    size = launch.size;
    address = launch.address;
    port = launch.port;
    return {};
  }

  // Returns when every rank has left its key. Asks again and again, as waiting in the store would
  // not tell which one is missing. Jobs of other sizes do not meet.
  Status meet() {
    const auto deadline = std::chrono::steady_clock::now() + timeout;
    const auto key = [&](int of) { return fmt::format("rank {} of {}", of, size); };
    if (store->add(key(rank), 1) != 1) {
      return usage_error("{}:{}: another process is rank {} of {} as well, or this is not rank 0",
                         address, port, rank, size);
    }
    std::vector<int> missing(static_cast<size_t>(size));
    std::iota(missing.begin(), missing.end(), 0);
    while (true) {
      std::erase_if(missing, [&](int of) { return store->check({key(of)}); });
      if (missing.empty()) {
        return {};
      }
      if (std::chrono::steady_clock::now() > deadline) {
        return failed(
            "{}:{}: of {} ranks these did not come within {} seconds: {}; do they "
            "run? RWKV_PRESS_RANK_TIMEOUT changes the time",
            address, port, size, timeout.count(), fmt::join(missing, ", "));
      }
      std::this_thread::sleep_for(kPoll);
    }
  }

  Status connect() {
    const char* trouble = rank == 0 ? "cannot listen there; MASTER_PORT names another port"
                                    : "rank 0 is not there; MASTER_ADDR names its machine";
    try {
      c10d::TCPStoreOptions at_master{static_cast<uint16_t>(port), rank == 0};
      at_master.waitWorkers = false;
      at_master.timeout = timeout;
      use_plain_sockets(at_master, 0);
      store = c10::make_intrusive<c10d::TCPStore>(address, at_master);
      trouble = "rank 0 left before all ranks had come";
      RWKV_TRY(meet());
      trouble = "cannot connect to the other ranks; GLOO_SOCKET_IFNAME names the network to use";
      auto options = c10d::ProcessGroupGloo::Options::create(timeout);
      options->threads = 1;
      options->devices = {find_device(address)};
      group = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
    } catch (const std::exception& error) {
      return failed("{}:{}, rank {}: {} ({})", address, port, rank, trouble, words(error));
    }
    return {};
  }
};

ProcessGroup::ProcessGroup(std::unique_ptr<Connection> connection)
    : rank_(connection->rank), size_(connection->size), connection_(std::move(connection)) {}

ProcessGroup::~ProcessGroup() = default;

Result<std::unique_ptr<ProcessGroup>> ProcessGroup::from_environment(uint64_t batch) {
  auto connection = std::make_unique<Connection>();
  RWKV_TRY(connection->read_environment());
  // Before connecting, so that every rank says this and none that another has gone.
  if (batch % static_cast<uint64_t>(connection->size) != 0) {
    return usage_error("train.batch {} cannot be shared by {} processes", batch, connection->size);
  }
  if (connection->size > 1) {
    RWKV_TRY(connection->connect());
  }
  return std::unique_ptr<ProcessGroup>(new ProcessGroup(std::move(connection)));
}

// Exceptions of `call` become a Status and close the connections, so that the other ranks notice
// even if this process continues.
Status ProcessGroup::run(const char* operation, const std::function<void()>& call) {
  if (size_ == 1 || !connection_->failure.ok()) {
    return connection_->failure;
  }
  try {
    call();
  } catch (const std::exception& error) {
    const bool is_io = dynamic_cast<const ::gloo::IoException*>(&error) != nullptr;
    const std::string found = words(error);
    connection_->failure = failed(
        "rank {} of {}, {}: {}, so the job ends here; --resume continues from the last snapshot "
        "({})",
        rank_, size_, operation,
        !is_io ? "the exchange with the other ranks failed"
        : found.find("Timed out") != std::string::npos
            ? "another rank did not answer in time (RWKV_PRESS_RANK_TIMEOUT)"
            : "another rank is gone",
        found);
    connection_->group.reset();
  }
  return connection_->failure;
}

Status ProcessGroup::sum(const std::vector<at::Tensor>& tensors) {
  RWKV_TRY(check(tensors, true));
  return run("sum over all ranks", [&] {
    in_buckets(tensors, [&](const at::Tensor& bucket) {
      std::vector<at::Tensor> values = {bucket};
      connection_->group->allreduce(values)->wait();
    });
  });
}

Status ProcessGroup::sum(double& value) {
  const at::Tensor tensor = at::full({1}, value, at::kDouble);
  RWKV_TRY(sum({tensor}));
  value = tensor.item<double>();
  return {};
}

Status ProcessGroup::broadcast(const std::vector<at::Tensor>& tensors) {
  RWKV_TRY(check(tensors, false));
  return run("broadcast from rank 0", [&] {
    in_buckets(tensors, [&](const at::Tensor& bucket) {
      std::vector<at::Tensor> bytes = {bucket.view(at::kByte)};
      connection_->group->broadcast(bytes)->wait();
    });
  });
}

Status ProcessGroup::barrier() {
  return run("barrier", [&] { connection_->group->barrier()->wait(); });
}

}  // namespace rwkv::press
