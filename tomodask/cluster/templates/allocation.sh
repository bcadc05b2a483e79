#!/bin/bash
@directives@
# A whole run in one job: a scheduler, the driver, and workers on every node, which speak TLS with
# keys of this run alone. Submitted again after a kill or a timeout, it goes on.
set -euo pipefail
cd @folder@
# What the site needs goes here, such as: module load cuda
TOMODASK=(@tomodask@)
RECIPE=@recipe@
RUN=@run@

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

"${TOMODASK[@]}" cluster start "$RUN"@start_options@ &
scheduler=$!
@launch@ \
    "${TOMODASK[@]}" cluster join "$RUN"@join_options@ &
workers=$!
"${TOMODASK[@]}" run "$RECIPE" --cluster scheduler-file \
    --scheduler-file "$RUN/scheduler.json"@run_options@ &
driver=$!
wait "$driver" # its exit code is the job's
