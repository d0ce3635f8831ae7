#include "compressor/train/launcher.h"

#include <algorithm>
#include <charconv>
#include <cstring>
#include <span>

#include "formats/base/checksum.h"

namespace rwkv::press {
namespace {

constexpr int kMaxRanks = 4096;
constexpr int kDefaultPort = 29500;
// Below the ports that systems give out by themselves.
constexpr int kFirstJobPort = 20000;
constexpr int kJobPorts = 9000;
constexpr const char* kThisMachine = "127.0.0.1";

std::string no_host(const Environment&) {
  return {};
}

// "382140416.0;tcp://192.0.2.2,10.0.0.1:44189;...": how processes reach mpirun.
std::string host_of_mpirun(const Environment& variable) {
  constexpr std::string_view kScheme = "tcp://";
  const std::string uri = variable("OMPI_MCA_orte_hnp_uri");
  const size_t at = uri.find(kScheme);
  if (at == std::string::npos) {
    return {};
  }
  const size_t begin = at + kScheme.size();
  return uri.substr(begin, uri.find_first_of(",:;", begin) - begin);
}

std::string host_of_step(const Environment& variable) {
  return first_host(variable("SLURM_STEP_NODELIST"));
}

// A launcher's variables, in the order of precedence. Half a pair means nothing, except in the
// first. Slurm's are those of a step, since a batch script has others without having been launched.
struct Launcher {
  const char* rank;
  const char* size;
  const char* local_size;  ///< processes on this machine; nullptr: none says it
  const char* n_machines;  ///< the same for machines
  const char* job[2];      ///< what tells jobs apart
  std::string (*host)(const Environment&);
};
constexpr Launcher kLaunchers[] = {
    {"RANK", "WORLD_SIZE", nullptr, nullptr, {}, no_host},
    {"OMPI_COMM_WORLD_RANK",
     "OMPI_COMM_WORLD_SIZE",
     "OMPI_COMM_WORLD_LOCAL_SIZE",
     nullptr,
     {"PMIX_NAMESPACE", "OMPI_MCA_ess_base_jobid"},
     host_of_mpirun},
    {"PMI_RANK", "PMI_SIZE", "MPI_LOCALNRANKS", nullptr, {}, no_host},
    {"SLURM_PROCID",
     "SLURM_STEP_NUM_TASKS",
     nullptr,
     "SLURM_STEP_NUM_NODES",
     {"SLURM_JOB_ID", "SLURM_STEP_ID"},
     host_of_step},
};

bool is_on_one_machine(const Launcher& launcher, const Environment& variable) {
  if (launcher.local_size != nullptr) {
    return variable(launcher.local_size) == variable(launcher.size);
  }
  return launcher.n_machines != nullptr && variable(launcher.n_machines) == "1";
}

int port_of_job(const Launcher& launcher, const Environment& variable) {
  std::string job;
  for (const char* name : launcher.job) {
    job += name != nullptr ? variable(name) + "/" : "";
  }
  if (job.find_first_not_of('/') == std::string::npos) {
    return kDefaultPort;
  }
  const uint64_t hash = xxh64(std::as_bytes(std::span(job.data(), job.size())));
  return kFirstJobPort + static_cast<int>(hash % kJobPorts);
}

Status find_place(const Launcher& launcher, const Environment& variable, Launch& launch) {
  launch.address = variable("MASTER_ADDR");
  const bool is_named = !launch.address.empty();
  if (!is_named) {
    launch.address = is_on_one_machine(launcher, variable) ? kThisMachine : launcher.host(variable);
  }
  if (launch.address.empty()) {
    return usage_error(
        "this is rank {} of {} by {} and {}, which do not say where rank 0 is: set MASTER_ADDR to "
        "the address of its machine for all ranks, or RANK=0 and WORLD_SIZE=1 for a single process",
        launch.rank, launch.size, launcher.rank, launcher.size);
  }
  const int otherwise = is_named ? kDefaultPort : port_of_job(launcher, variable);
  RWKV_ASSIGN(launch.port, environment_number(variable, "MASTER_PORT", 1, 65535, otherwise));
  if (variable("TORCHELASTIC_USE_AGENT_STORE") == "True") {
    launch.port += launch.port < 65535 ? 1 : -1;  // torchrun itself uses the port, in its own way
  }
  return {};
}

}  // namespace

Result<int> environment_number(const Environment& variable, const char* name, int from, int to,
                               int otherwise) {
  const std::string text = variable(name);
  int value = otherwise;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  const bool is_read = error == std::errc() && end == text.data() + text.size();
  if (!text.empty() && (!is_read || value < from || value > to)) {
    return usage_error("the environment variable {} is '{}', not a number from {} to {}", name,
                       text, from, to);
  }
  return value;
}

std::string first_host(const std::string& list) {
  constexpr std::string_view kLetters =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-_";
  std::string host;
  for (size_t i = 0; i < list.size() && list[i] != ',';) {
    if (list[i] == '[') {
      const size_t end = list.find(']', i);
      if (end == std::string::npos) {
        return {};
      }
      host += list.substr(i + 1, list.find_first_of(",-]", i) - i - 1);
      i = end + 1;
    } else {
      host += list[i++];
    }
  }
  return host.find_first_not_of(kLetters) == std::string::npos ? host : std::string();
}

Result<Launch> read_launch(const Environment& variable) {
  if (variable("RANK").empty() != variable("WORLD_SIZE").empty()) {
    return usage_error("RANK is '{}' and WORLD_SIZE '{}' in the environment: set both or neither",
                       variable("RANK"), variable("WORLD_SIZE"));
  }
  const auto launcher =
      std::find_if(std::begin(kLaunchers), std::end(kLaunchers), [&](const Launcher& each) {
        return !variable(each.rank).empty() && !variable(each.size).empty();
      });
  Launch launch;
  if (launcher == std::end(kLaunchers)) {
    return launch;
  }
  RWKV_ASSIGN(launch.size, environment_number(variable, launcher->size, 1, kMaxRanks, 1));
  RWKV_ASSIGN(launch.rank, environment_number(variable, launcher->rank, 0, launch.size - 1, 0));
  if (launch.size > 1) {  // else the other variables do not matter
    RWKV_TRY(find_place(*launcher, variable, launch));
  }
  return launch;
}

}  // namespace rwkv::press
