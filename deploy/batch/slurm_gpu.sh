#!/bin/bash
#SBATCH --job-name=tomodask-volume
#SBATCH --time=04:00:00
#SBATCH --partition=gpu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=32
#SBATCH --mem=228881M
#SBATCH --gres=gpu:4
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%j.log
# A whole run in one job: a scheduler, the driver, and workers on every node, which speak TLS with
# keys of this run alone. Submitted again after a kill or a timeout, it goes on.
set -euo pipefail
cd /data/me
# What the site needs goes here, such as: module load cuda
TOMODASK=(/data/me/venv/bin/python -m tomodask)
RECIPE=recipe.yaml
RUN=/data/me/volume.ome.zarr.run

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

"${TOMODASK[@]}" cluster start "$RUN" &
scheduler=$!
srun --nodes=2 --ntasks-per-node=1 --cpus-per-task=32 --gres=gpu:4 --cpu-bind=none --no-kill --kill-on-bad-exit=0 \
    "${TOMODASK[@]}" cluster join "$RUN" --gpus=4 --workers=4 --threads=8 --memory=56708MiB --walltime=14400 &
workers=$!
"${TOMODASK[@]}" run "$RECIPE" --cluster scheduler-file \
    --scheduler-file "$RUN/scheduler.json" &
driver=$!
wait "$driver" # its exit code is the job's
