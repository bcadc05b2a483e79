#!/bin/bash
#PBS -N tomodask-tooth
#PBS -l walltime=00:30:00
#PBS -l select=1:ncpus=8:mem=32768mb
#PBS -l place=scatter
#PBS -J 1-16
#PBS -r y
#PBS -j oe
# One element of an array of 16 jobs without a scheduler of their own. They run in any order,
# on any number of nodes, and again at will: what is done is never done twice.
#   before them, once:  cd /home/me/scans && /opt/tomodask/bin/python -m tomodask prepare tooth.yaml
#   these:              qsub THIS_SCRIPT
#   after them:         echo 'cd /home/me/scans && /opt/tomodask/bin/python -m tomodask finalize tooth.yaml' | qsub -W depend=afterany:JOB_ID
set -euo pipefail
cd /home/me/scans
# What the site needs goes here, such as: module load cuda
TOMODASK=(/opt/tomodask/bin/python -m tomodask)
RECIPE=tooth.yaml

exec "${TOMODASK[@]}" run "$RECIPE" --shard "$PBS_ARRAY_INDEX/16" --threads=8
