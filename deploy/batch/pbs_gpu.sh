#!/bin/bash
#PBS -N tomodask-volume
#PBS -l walltime=04:00:00
#PBS -q gpuq
#PBS -l select=2:ncpus=32:mem=228881mb:ngpus=4
#PBS -l place=scatter
#PBS -r y
#PBS -j oe
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
pbsdsh -- env "PATH=$PATH" "LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}" "HOME=$HOME" \
    "${TOMODASK[@]}" cluster join "$RUN" --gpus=4 --workers=4 --threads=8 --memory=56708MiB --walltime=14400 &
workers=$!
"${TOMODASK[@]}" run "$RECIPE" --cluster scheduler-file \
    --scheduler-file "$RUN/scheduler.json" &
driver=$!
wait "$driver" # its exit code is the job's
