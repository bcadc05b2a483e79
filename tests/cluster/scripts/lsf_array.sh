#!/bin/bash
#BSUB -J "tomodask-tooth[1-16]"
#BSUB -W 0:30
#BSUB -n 8
#BSUB -R "span[ptile=8] rusage[mem=32768MB]"
#BSUB -r
#BSUB -o tomodask-tooth-%J_%I.log
# One element of an array of 16 jobs without a scheduler of their own. They run in any order,
# on any number of nodes, and again at will: what is done is never done twice.
#   before them, once:  cd /home/me/scans && /opt/tomodask/bin/python -m tomodask prepare tooth.yaml
#   these:              bsub < THIS_SCRIPT
#   after them:         bsub -w 'ended(JOB_ID)' 'cd /home/me/scans && /opt/tomodask/bin/python -m tomodask finalize tooth.yaml'
set -euo pipefail
cd /home/me/scans
# What the site needs goes here, such as: module load cuda
TOMODASK=(/opt/tomodask/bin/python -m tomodask)
RECIPE=tooth.yaml

exec "${TOMODASK[@]}" run "$RECIPE" --shard "$LSB_JOBINDEX/16" --threads=8
