#!/bin/bash
#SBATCH --job-name=tomodask-tooth
#SBATCH --time=00:30:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32768M
#SBATCH --array=1-16
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=%x-%A_%a.log
# One element of an array of 16 jobs without a scheduler of their own. They run in any order,
# on any number of nodes, and again at will: what is done is never done twice.
#   before them, once:  cd /home/me/scans && /opt/tomodask/bin/python -m tomodask prepare tooth.yaml
#   these:              sbatch THIS_SCRIPT
#   after them:         sbatch --dependency=afterany:JOB_ID --wrap 'cd /home/me/scans && /opt/tomodask/bin/python -m tomodask finalize tooth.yaml'
set -euo pipefail
cd /home/me/scans
# What the site needs goes here, such as: module load cuda
TOMODASK=(/opt/tomodask/bin/python -m tomodask)
RECIPE=tooth.yaml

exec "${TOMODASK[@]}" run "$RECIPE" --shard "$SLURM_ARRAY_TASK_ID/16" --threads=8
