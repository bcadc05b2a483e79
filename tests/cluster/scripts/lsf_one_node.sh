#!/bin/bash
#BSUB -J "tomodask-tooth"
#BSUB -W 4:00
#BSUB -n 1
#BSUB -R "span[ptile=1]"
#BSUB -x
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

"${TOMODASK[@]}" cluster start "$RUN" --host=127.0.0.1 &
scheduler=$!
blaunch -z "$(sort -u "$LSB_DJOB_HOSTFILE" | paste -sd " ")" \
    "${TOMODASK[@]}" cluster join "$RUN" --walltime=14400 --host=127.0.0.1 &
workers=$!
"${TOMODASK[@]}" run "$RECIPE" --cluster scheduler-file \
    --scheduler-file "$RUN/scheduler.json" &
driver=$!
wait "$driver" # its exit code is the job's
