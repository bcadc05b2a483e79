#!/bin/bash
#BSUB -J "tomodask-tooth"
#BSUB -W 24:00
#BSUB -q gpu
#BSUB -P beam7
#BSUB -n 32
#BSUB -R "span[ptile=16] rusage[mem=131072MB]"
#BSUB -gpu "num=4/host"
#BSUB -r
#BSUB -o tomodask-tooth-%J.log
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
blaunch -z "$(sort -u "$LSB_DJOB_HOSTFILE" | paste -sd " ")" \
    "${TOMODASK[@]}" cluster join "$RUN" --gpus=4 --workers=4 --threads=4 --memory=32256MiB --walltime=86400 --interface=ib0 &
workers=$!
"${TOMODASK[@]}" run "$RECIPE" --cluster scheduler-file \
    --scheduler-file "$RUN/scheduler.json" &
driver=$!
wait "$driver" # its exit code is the job's
