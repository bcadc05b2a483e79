#!/bin/bash
# A run as a Slurm job array, without Dask: bash deploy/array/slurm.sh RECIPE.yaml [ELEMENTS]
# Submits prepare, the array when prepare is done, and finalize when every element has ended.
# Elements never wait for each other. One that was killed is submitted again alone:
#   sbatch --array=3 ... with the same 1-16, or this whole script: what is done is not done twice.
set -euo pipefail
RECIPE=$(realpath "${1:?usage: bash slurm.sh RECIPE.yaml [ELEMENTS]}")
ELEMENTS=${2:-16}
export RECIPE ELEMENTS  # jobs inherit the environment, an activated venv too
mkdir -p logs

# EDIT: what one element gets.
options=(--partition=cpu --time=02:00:00 --cpus-per-task=8 --mem=32G --requeue)
# With GPUs: options+=(--gres=gpu:1)

prepare=$(sbatch --parsable "${options[@]}" --job-name=prepare --output=logs/%x-%j.out <<'END'
#!/bin/bash
exec tomodask prepare "$RECIPE"
END
)
# %8 at most run at once, where the file system or your neighbours mind.
array=$(sbatch --parsable "${options[@]}" --job-name=shards --output=logs/%x-%A-%a.out \
  --dependency="afterok:${prepare%%;*}" --kill-on-invalid-dep=yes --array="1-$ELEMENTS" <<'END'
#!/bin/bash
exec tomodask run "$RECIPE" --shard "$SLURM_ARRAY_TASK_ID/$ELEMENTS"
END
)
# afterany, not afterok: where an element failed, finalize is what lists the missing blocks.
finalize=$(sbatch --parsable "${options[@]}" --job-name=finalize --output=logs/%x-%j.out \
  --dependency="afterany:${array%%;*}" <<'END'
#!/bin/bash
exec tomodask finalize "$RECIPE"
END
)
echo "prepare ${prepare%%;*}, array ${array%%;*}, finalize ${finalize%%;*}"
