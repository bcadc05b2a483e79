#!/bin/bash
# A run as a PBS Pro job array, without Dask: bash deploy/array/pbs.sh RECIPE.yaml [ELEMENTS]
# Submits prepare, the array when prepare is done, and finalize when every element has ended.
# Submitted again, it goes on: what is done is not done twice.
set -euo pipefail
RECIPE=$(realpath "${1:?usage: bash pbs.sh RECIPE.yaml [ELEMENTS]}")
ELEMENTS=${2:-16}  # two at least: PBS refuses an array of one
export RECIPE ELEMENTS
mkdir -p logs

# EDIT: what one element gets. -V hands the environment over, an activated venv too; jobs begin in
# the home directory all the same.
options=(-V -q workq -l walltime=02:00:00 -l select=1:ncpus=8:mem=32gb -j oe -o logs/ -r y)
# With GPUs: select=1:ncpus=8:ngpus=1:mem=32gb

prepare=$(qsub "${options[@]}" -N prepare <<'END'
cd "$PBS_O_WORKDIR" && exec tomodask prepare "$RECIPE"
END
)
array=$(qsub "${options[@]}" -N shards -J "1-$ELEMENTS" -W "depend=afterok:$prepare" <<'END'
cd "$PBS_O_WORKDIR" && exec tomodask run "$RECIPE" --shard "$PBS_ARRAY_INDEX/$ELEMENTS"
END
)
# afterany, not afterok: where an element failed, finalize is what lists the missing blocks.
finalize=$(qsub "${options[@]}" -N finalize -W "depend=afterany:$array" <<'END'
cd "$PBS_O_WORKDIR" && exec tomodask finalize "$RECIPE"
END
)
echo "prepare $prepare, array $array, finalize $finalize"
