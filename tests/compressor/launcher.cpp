// What launchers say in the environment, as they really set it.
#include "compressor/train/launcher.h"

#include <map>

#include "tests/support/catch.h"
#include "tests/support/support.h"

using namespace rwkv;
using Catch::Contains;

namespace {

using Variables = std::map<std::string, std::string>;

Result<press::Launch> launch_from(const Variables& variables) {
  return press::read_launch([&](const char* name) {
    const auto found = variables.find(name);
    return found == variables.end() ? std::string() : found->second;
  });
}

Variables with(Variables variables, const Variables& more) {
  for (const auto& [name, value] : more) {
    variables[name] = value;
  }
  return variables;
}

const Variables kOpenMpi = {
    {"OMPI_COMM_WORLD_RANK", "1"},
    {"OMPI_COMM_WORLD_SIZE", "4"},
    {"OMPI_COMM_WORLD_LOCAL_SIZE", "4"},
    {"OMPI_MCA_orte_hnp_uri", "382140416.0;tcp://192.0.2.2,10.0.0.1:44189;tcp6://[fd00::2]:40809"},
    {"PMIX_NAMESPACE", "382140417"},
};
const Variables kSlurm = {
    {"SLURM_PROCID", "3"},
    {"SLURM_NTASKS", "4"},
    {"SLURM_STEP_NUM_TASKS", "4"},
    {"SLURM_STEP_NUM_NODES", "2"},
    {"SLURM_JOB_ID", "81"},
    {"SLURM_STEP_ID", "0"},
    {"SLURM_STEP_NODELIST", "node[003-004]"},
};

}  // namespace

TEST_CASE("Rank, size and meeting place are read as launchers set them", "[launcher]") {
  struct Row {
    Variables variables;
    int rank, size;
    std::string address;
    int port;  // 0: one that depends on the job
  };
  const Row rows[] = {
      {{}, 0, 1, "", 0},
      {{{"RANK", "0"}, {"WORLD_SIZE", "1"}}, 0, 1, "", 0},
      {{{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}}, 1, 2, "a", 29500},
      {{{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "77"}},
       1,
       2,
       "a",
       77},
      {kOpenMpi, 1, 4, "127.0.0.1", 0},
      {with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "2"}}), 1, 4, "192.0.2.2", 0},
      {with(kOpenMpi, {{"MASTER_ADDR", "b"}}), 1, 4, "b", 29500},
      {with(kOpenMpi, {{"MASTER_PORT", "99"}}), 1, 4, "127.0.0.1", 99},
      {kSlurm, 3, 4, "node003", 0},
      {with(kSlurm, {{"SLURM_STEP_NUM_NODES", "1"}}), 3, 4, "127.0.0.1", 0},
      // A batch script, which srun did not start.
      {{{"SLURM_PROCID", "0"}, {"SLURM_NTASKS", "4"}, {"SLURM_JOB_ID", "81"}}, 0, 1, "", 0},
      // mpirun within a Slurm job.
      {with(kSlurm, kOpenMpi), 1, 4, "127.0.0.1", 0},
      {{{"PMI_RANK", "2"}, {"PMI_SIZE", "3"}, {"MPI_LOCALNRANKS", "3"}}, 2, 3, "127.0.0.1", 29500},
  };
  for (const Row& row : rows) {
    const auto launch = launch_from(row.variables);
    REQUIRE_OK(launch.status());
    INFO(row.address << " " << row.rank << " of " << row.size);
    CHECK(launch.value().rank == row.rank);
    CHECK(launch.value().size == row.size);
    CHECK(launch.value().address == row.address);
    if (row.port > 0) {
      CHECK(launch.value().port == row.port);
    }
  }
}

TEST_CASE("Processes of a job meet at one port, and jobs at others", "[launcher]") {
  const auto port = [](const Variables& variables) {
    const auto launch = launch_from(variables);
    REQUIRE_OK(launch.status());
    return launch.value().port;
  };
  for (const auto& [variables, rank, job] :
       {std::tuple(kOpenMpi, "OMPI_COMM_WORLD_RANK", "PMIX_NAMESPACE"),
        std::tuple(kSlurm, "SLURM_PROCID", "SLURM_JOB_ID"),
        std::tuple(kSlurm, "SLURM_PROCID", "SLURM_STEP_ID")}) {
    const int here = port(variables);
    CHECK(here >= 20000);
    CHECK(here < 32768);
    CHECK(port(with(variables, {{rank, "0"}})) == here);
    CHECK(port(with(variables, {{job, "4711"}})) != here);
  }
}

TEST_CASE("Variables that do not say where to meet are refused by name", "[launcher]") {
  const std::pair<Variables, const char*> rows[] = {
      {{{"RANK", "1"}}, "set both or neither"},
      {{{"RANK", "1"}, {"WORLD_SIZE", "2"}}, "MASTER_ADDR"},
      {{{"RANK", "2"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}}, "RANK is '2'"},
      {{{"RANK", "0"}, {"WORLD_SIZE", "9999999999"}}, "WORLD_SIZE is '9999999999'"},
      {{{"RANK", "1"}, {"WORLD_SIZE", "2"}, {"MASTER_ADDR", "a"}, {"MASTER_PORT", "0"}},
       "MASTER_PORT"},
      {with(kSlurm, {{"SLURM_STEP_NODELIST", "node[003"}}), "SLURM_PROCID"},
      {with(kOpenMpi, {{"OMPI_COMM_WORLD_LOCAL_SIZE", "1"}, {"OMPI_MCA_orte_hnp_uri", "x"}}),
       "OMPI_COMM_WORLD_RANK"},
  };
  for (const auto& [variables, says] : rows) {
    const auto launch = launch_from(variables);
    CHECK(launch.status().code() == Code::Usage);
    CHECK_THAT(launch.status().message(), Contains(says));
  }
}

TEST_CASE("The first host of a list is found as Slurm writes lists", "[launcher]") {
  const std::pair<const char*, const char*> rows[] = {
      {"vm", "vm"},
      {"a,b", "a"},
      {"node[001-003,007],other", "node001"},
      {"node[12]", "node12"},
      {"rack[1-2]node[3-4]-ib.example.org,x", "rack1node3-ib.example.org"},
      {"", ""},
      {"node[1", ""},
      {"a b", ""},
      {"$(x)", ""},
  };
  for (const auto& [list, host] : rows) {
    CHECK(press::first_host(list) == host);
  }
}
