#!/bin/bash
# A Slurm of one node on loopback, for a container where you are root: one_node.sh COMMAND runs COMMAND beside it and ends it after.
#
# From Debian's packages (apt-get install slurm-wlm munge), with keys, configuration and state of its own in a temporary folder; only
# /etc/slurm/slurm.conf is a link to it for that time, since Snakemake takes SLURM_CONF from a job's steps. Memory and cores are
# counted as on a cluster; without control groups they are not enforced.
set -euo pipefail
[ "$(id -u)" = 0 ] || { echo "one_node.sh: slurmd needs root; run it in a container"; exit 1; }
for program in munged slurmctld slurmd sbatch; do
    command -v $program >/dev/null || { echo "one_node.sh: $program is missing: apt-get install slurm-wlm munge"; exit 1; }
done
[ ! -e /etc/slurm/slurm.conf ] || { echo "one_node.sh: there is a Slurm configuration here already: /etc/slurm/slurm.conf"; exit 1; }
[ $# -gt 0 ] || { echo "usage: one_node.sh COMMAND [ARGUMENT ...]"; exit 1; }

STATE=$(mktemp -d /tmp/slurm.XXXXXX)
chmod 755 "$STATE"
HOST=$(hostname -s)
started=()
end() {
    scancel --user root >/dev/null 2>&1 || true
    for ((i = ${#started[@]} - 1; i >= 0; i--)); do kill "${started[i]}" 2>/dev/null || true; done
    wait
    rm -f /etc/slurm/slurm.conf
    [ "${KEEP:-}" ] && echo "one_node.sh: logs are in $STATE" || rm -rf "$STATE"
}
trap end EXIT

mkdir -m 700 "$STATE/munge"
mkdir "$STATE/ctld" "$STATE/d"
dd if=/dev/urandom of="$STATE/munge/key" bs=128 count=1 status=none
chmod 400 "$STATE/munge/key"
munged --foreground --force --key-file "$STATE/munge/key" --socket "$STATE/munge.socket" --pid-file "$STATE/munge/pid" \
    --log-file "$STATE/munge/log" --seed-file "$STATE/munge/seed" >"$STATE/munged.out" 2>&1 &
started+=($!)

PORT=$((20000 + RANDOM % 10000))
MEMORY=$(($(sed -n 's/^MemTotal: *\([0-9]*\) kB/\1/p' /proc/meminfo) / 1024 * 9 / 10))
cat >"$STATE/slurm.conf" <<CONF
ClusterName=loopback
SlurmctldHost=$HOST(127.0.0.1)
SlurmctldPort=$PORT
SlurmdPort=$((PORT + 1))
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket=$STATE/munge.socket
CredType=cred/munge
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
MpiDefault=none
ReturnToService=2
MinJobAge=3600
SchedulerParameters=sched_min_interval=100000,batch_sched_delay=0
StateSaveLocation=$STATE/ctld
SlurmdSpoolDir=$STATE/d
SlurmctldPidFile=$STATE/ctld.pid
SlurmdPidFile=$STATE/d.pid
SlurmctldLogFile=$STATE/ctld.log
SlurmdLogFile=$STATE/d.log
NodeName=$HOST NodeAddr=127.0.0.1 CPUs=$(nproc --all) RealMemory=$MEMORY State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
CONF
echo "CgroupPlugin=cgroup/v1" >"$STATE/cgroup.conf"
mkdir -p /etc/slurm
ln -sfn "$STATE/slurm.conf" /etc/slurm/slurm.conf

for ((i = 0; i < 50; i++)); do [ -S "$STATE/munge.socket" ] && break || sleep 0.1; done
slurmctld -D >"$STATE/ctld.out" 2>&1 &
started+=($!)
slurmd -D -N "$HOST" >"$STATE/d.out" 2>&1 &
started+=($!)
for ((i = 0; i < 100; i++)); do
    [ "$(sinfo -h -o %T 2>/dev/null)" = idle ] && break
    [ $i -lt 99 ] || { echo "one_node.sh: Slurm did not start:"; tail -n 5 "$STATE"/*.out "$STATE"/*.log; exit 1; }
    sleep 0.3
done
"$@"
