#!/usr/bin/env bash
# Runs a command where a Slurm of one machine is at work, in a network, a process and a mount
# namespace of its own; everything ends with the command. Needs root, slurm-wlm and munge.
# Usage: slurm_node.sh FOLDER COMMAND...    FOLDER: an empty one, for keys, logs and states
set -euo pipefail
folder=$1
shift

if [[ ${RWKV_IN_NAMESPACE:-} != yes ]]; then
  export RWKV_IN_NAMESPACE=yes
  exec unshare --net --mount --pid --fork --kill-child --mount-proc "$0" "$folder" "$@"
fi

# The C library resolves no name where only 127.0.0.1 is.
address=10.11.12.1
ip link set lo up
ip address add "$address/32" dev lo
host=$(hostname -s)
mkdir -p "$folder/state" "$folder/spool" "$folder/run"
head -c 1024 /dev/urandom > "$folder/munge.key"
chmod 400 "$folder/munge.key"
# Its folders may belong to the user of a test, whom it would not trust otherwise.
munged --force --key-file="$folder/munge.key" --socket="$folder/run/munge.socket" \
  --pid-file="$folder/run/munged.pid" --log-file="$folder/munged.log" \
  --seed-file="$folder/munge.seed" 2> /dev/null

export SLURM_CONF=$folder/slurm.conf
cat > "$SLURM_CONF" << EOF
ClusterName=one
SlurmctldHost=$host($address)
AuthType=auth/munge
AuthInfo=socket=$folder/run/munge.socket
SlurmUser=root
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/run/slurmctld.pid
SlurmdPidFile=$folder/run/slurmd.pid
ProctrackType=proctrack/pgid
TaskPlugin=task/none
MpiDefault=none
SchedulerType=sched/builtin
NodeName=$host NodeAddr=$address CPUs=$(nproc) State=UNKNOWN
PartitionName=main Nodes=$host Default=YES OverSubscribe=FORCE:8
EOF
slurmctld -D > "$folder/slurmctld.log" 2>&1 &
sleep 1
slurmd -D > "$folder/slurmd.log" 2>&1 &
for ((i = 0; i < 40; ++i)); do
  state=$(sinfo --noheader --format=%t 2> /dev/null || true)
  [[ $state != idle ]] || break
  sleep 0.5
done
if [[ $state != idle ]]; then
  printf 'slurm_node.sh: error: the machine is "%s", not idle; see the logs in %s\n' "$state" "$folder" >&2
  exit 1
fi
"$@"
