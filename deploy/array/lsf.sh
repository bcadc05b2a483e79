#!/bin/bash
# A run as an LSF job array, without Dask: bash deploy/array/lsf.sh RECIPE.yaml [ELEMENTS]
# Submits prepare, the array when prepare is done, and finalize when every element has ended.
# Submitted again, it goes on: what is done is not done twice.
set -euo pipefail
RECIPE=$(realpath "${1:?usage: bash lsf.sh RECIPE.yaml [ELEMENTS]}")
ELEMENTS=${2:-16}
export RECIPE ELEMENTS  # jobs inherit the environment, an activated venv too
mkdir -p logs

# EDIT: what one element gets; memory in the site's unit (LSF_UNIT_FOR_LIMITS), here MB.
options=(-q normal -W 02:00 -n 8 -R "span[hosts=1] rusage[mem=32000]" -M 32000 -r)
# With GPUs: options+=(-gpu "num=1:mode=shared")

# bsub answers "Job <123> is submitted to queue <normal>."
submit() { bsub "${options[@]}" "$@" | sed -n 's/^Job <\([0-9]*\)>.*/\1/p'; }

prepare=$(submit -J prepare -o "logs/prepare-%J.out" <<'END'
exec tomodask prepare "$RECIPE"
END
)
array=$(submit -J "shards[1-$ELEMENTS]" -o "logs/shards-%J-%I.out" -w "done($prepare)" <<'END'
exec tomodask run "$RECIPE" --shard "$LSB_JOBINDEX/$ELEMENTS"
END
)
# ended, not done: where an element failed, finalize is what lists the missing blocks.
finalize=$(submit -J finalize -o "logs/finalize-%J.out" -w "ended($array)" <<'END'
exec tomodask finalize "$RECIPE"
END
)
echo "prepare $prepare, array $array, finalize $finalize"
