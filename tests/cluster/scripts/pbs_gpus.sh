#!/bin/bash
#PBS -N tomodask-tooth
#PBS -l walltime=24:00:00
#PBS -q gpu
#PBS -A beam7
#PBS -l select=2:ncpus=16:mem=131072mb:ngpus=4
#PBS -l place=scatter
#PBS -r y
#PBS -j oe
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
pbsdsh -- env "PATH=$PATH" "LD_LIBRARY_PATH=${LD_LIBRARY_PATH:-}" "HOME=$HOME" \
    "${TOMODASK[@]}" cluster join "$RUN" --gpus=4 --workers=4 --threads=4 --memory=32256MiB --walltime=86400 --interface=ib0 &
workers=$!
"${TOMODASK[@]}" run "$RECIPE" --cluster scheduler-file \
    --scheduler-file "$RUN/scheduler.json" &
driver=$!
wait "$driver" # its exit code is the job's
