#!/bin/bash
#BSUB -J "tomodask-volume"
#BSUB -W 4:00
#BSUB -q normal
#BSUB -n 64
#BSUB -R "span[ptile=32] rusage[mem=114440MB]"
#BSUB -r
#BSUB -o tomodask-volume-%J.log
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
blaunch -z "$(sort -u "$LSB_DJOB_HOSTFILE" | paste -sd " ")" \
    "${TOMODASK[@]}" cluster join "$RUN" --workers=8 --threads=4 --memory=14049MiB --walltime=14400 &
workers=$!
"${TOMODASK[@]}" run "$RECIPE" --cluster scheduler-file \
    --scheduler-file "$RUN/scheduler.json" &
driver=$!
wait "$driver" # its exit code is the job's
