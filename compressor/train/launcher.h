// What launchers of several processes tell each of them in the environment: torchrun, mpirun of
// Open MPI and of MPICH, srun of Slurm, a shell loop.
#pragma once

#include <functional>
#include <string>

#include "formats/base/status.h"

namespace rwkv::press {

struct Launch {
  int rank = 0;
  int size = 1;         ///< 1: there is nobody to meet
  std::string address;  ///< of the machine of rank 0; empty if `size` is 1
  int port = 0;         ///< where rank 0 listens
};

/// The value of an environment variable; empty if it is not set.
using Environment = std::function<std::string(const char* name)>;

/// The number that a variable holds, `otherwise` if it is not set. Usage, naming variable and
/// value, for anything else than a number from `from` to `to`.
Result<int> environment_number(const Environment& variable, const char* name, int from, int to,
                               int otherwise);

/// RANK and WORLD_SIZE, else what Open MPI, Hydra or Slurm says. MASTER_ADDR and MASTER_PORT come
/// first for the meeting place; without them it is this machine where all processes run on one, the
/// first machine of a Slurm step, or that of Open MPI's mpirun, and a port that is derived from the
/// job's id, so that two jobs of a machine do not meet. Usage if variables are invalid, incomplete
/// or do not name the place; the message says which to set.
Result<Launch> read_launch(const Environment& variable);

/// The first name in a list as Slurm writes them: "a[07-12,15]-x,b" gives "a07-x"; empty if it is
/// no such list.
std::string first_host(const std::string& list);

}  // namespace rwkv::press
