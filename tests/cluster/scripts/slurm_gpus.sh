#!/bin/bash
#SBATCH --job-name=tomodask-tooth
#SBATCH --time=24:00:00
#SBATCH --partition=gpu
#SBATCH --account=beam7
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=16
#SBATCH --mem=131072M
#SBATCH --gres=gpu:4
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# A whole run in one job: a scheduler, the driver, and workers on every node, which speak TLS with
# keys of this run alone. Submitted again after a kill or a timeout, it goes on.
set -euo pipefail
cd /home/me/scans
# What the site needs goes here, such as: module load cuda
TOMODASK=(/opt/tomodask/bin/python -m tomodask)
RECIPE=tooth.yaml
RUN=/home/me/scans/tooth.ome.zarr.run

# However the job ends, the driver is told first: it says how far it came.
scheduler='' workers='' driver=''
end() {
    trap '' TERM INT HUP
    [[ -z $driver ]] || { kill "$driver" 2>/dev/null && wait "$driver"; } || true
    for process in $workers $scheduler; do kill "$process" 2>/dev/null || true; done
    wait
}
trap end EXIT
trap 'exit 143' TERM INT HUP

"${TOMODASK[@]}" cluster start "$RUN" --interface=ib0 &
scheduler=$!
srun --nodes=2 --ntasks-per-node=1 --cpus-per-task=16 --gres=gpu:4 --cpu-bind=none --no-kill --kill-on-bad-exit=0 \
    "${TOMODASK[@]}" cluster join "$RUN" --gpus=4 --workers=4 --threads=4 --memory=32256MiB --walltime=86400 --interface=ib0 &
workers=$!
"${TOMODASK[@]}" run "$RECIPE" --cluster scheduler-file \
    --scheduler-file "$RUN/scheduler.json" &
driver=$!
wait "$driver" # its exit code is the job's
