// The processes of one data-parallel training, over LibTorch's c10d with Gloo: one machine or many,
// CPU tensors. A launcher starts them (torchrun, mpirun, srun, a shell loop) and gives each its
// rank in the environment. The caller decides what is summed and how to handle a failure.
//   RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT, and what launchers set in their place: launcher.h
//   GLOO_SOCKET_IFNAME         the network interface, if the host name resolves to the wrong one
//   RWKV_PRESS_RANK_TIMEOUT    seconds for connecting and for each operation, default 300
#pragma once

#include <ATen/core/Tensor.h>

#include <functional>
#include <memory>
#include <vector>

#include "formats/base/status.h"

namespace rwkv::press {

/// Every rank makes the same calls in the same order, from one thread. Results are the same bits on
/// all ranks, and in every run with as many ranks. After an operation has failed all later ones
/// return that failure, and the other ranks' fail as well: the job ends, the caller says so.
class ProcessGroup {
 public:
  /// One process, without any socket, if the environment names none or says that there is one; else
  /// connects to all others. Usage if the variables are incomplete or invalid (the message names
  /// them) or if `batch` sequences cannot be divided among the processes; Failed if a rank does not
  /// connect in time (the message names it).
  static Result<std::unique_ptr<ProcessGroup>> from_environment(uint64_t batch);
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return rank_; }
  int size() const { return size_; }
  bool is_first() const { return rank_ == 0; }

  /// Sums in place over all ranks: f32 or f64, contiguous, the same shapes everywhere (Gloo aborts
  /// otherwise). Small tensors travel together, those of other devices by way of the CPU. Does
  /// nothing with one rank.
  Status sum(const std::vector<at::Tensor>& tensors);
  Status sum(double& value);
  /// Copies from rank 0 to all; any type, otherwise as in sum.
  Status broadcast(const std::vector<at::Tensor>& tensors);
  /// Returns when every rank has called it.
  Status barrier();

 private:
  struct Connection;
  explicit ProcessGroup(std::unique_ptr<Connection> connection);
  Status run(const char* operation, const std::function<void()>& call);

  int rank_;
  int size_;
  std::unique_ptr<Connection> connection_;
};

}  // namespace rwkv::press
