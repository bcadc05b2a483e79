#!/bin/bash
# A run on workers that mpirun starts, by dask-mpi: for sites where that is how processes reach the
# nodes of an allocation. Inside a job of N nodes (#SBATCH, #PBS or #BSUB lines go on top):
#
#   bash deploy/dask_mpi.sh RECIPE.yaml RANKS [THREADS]
#
# Rank 0 is the scheduler, each other a worker that takes one block at a time, with THREADS threads.
# Needs `pip install 'tomodask[mpi]'` and the site's MPI (`module load mpich`): mpi4py finds its
# library by the loader's path; MPI4PY_LIBMPI=/path/libmpi.so names another.
# Begin it on a file system that all nodes see; it goes on where it stopped when it is run again.
set -euo pipefail
recipe=${1:?usage: bash dask_mpi.sh RECIPE.yaml RANKS [THREADS]}
ranks=${2:?usage: bash dask_mpi.sh RECIPE.yaml RANKS [THREADS]} threads=${3:-8}

folder=$(mktemp -d "$PWD/dask-mpi-XXXXXX")  # nobody else may read it: it holds the run's keys
mpi=''
finish() {
  [ -z "$mpi" ] || kill "$mpi" 2> /dev/null || true
  wait
  rm -rf "$folder"
}
trap finish EXIT

# Dask's settings as a file, since not every mpirun carries the environment to other nodes.
python - "$folder" "$threads" <<'END'
import pathlib, sys

import dask.config, yaml
from tomodask.cluster.certificates import make_certificates
from tomodask.cluster.local import SETTINGS, worker_environment

folder, threads, settings = pathlib.Path(sys.argv[1]), int(sys.argv[2]), {}
files = make_certificates(folder / "tls").get_tls_config_for_role("worker")
tls = {"ca-file": files["ca_file"]}
for role in ("scheduler", "worker", "client"):
    tls[role] = {"cert": files["cert"], "key": files["key"]}
dask.config.set(SETTINGS, config=settings)
dask.config.set({"distributed.comm": {"require-encryption": True, "tls": tls}}, config=settings)
dask.config.set({"distributed.nanny.pre-spawn-environ": worker_environment(threads)}, config=settings)
dask.config.set({"logging": {"distributed": "warning"}}, config=settings)
(folder / "dask.yaml").write_text(yaml.safe_dump(settings))
END
export DASK_CONFIG=$folder/dask.yaml

# EDIT: --interface ib0 where there is one; memory of a worker instead of an equal share.
mpirun -n "$ranks" env DASK_CONFIG="$DASK_CONFIG" dask-mpi --scheduler-file "$folder/scheduler.json" \
  --protocol tls:// --no-dashboard --nthreads 1 --local-directory "${TMPDIR:-/tmp}" &
mpi=$!
until [ -s "$folder/scheduler.json" ]; do
  kill -0 "$mpi" 2> /dev/null || { echo "dask_mpi.sh: mpirun ended before its scheduler began" >&2 && exit 1; }
  sleep 0.5
done
tomodask run "$recipe" --cluster scheduler-file --scheduler-file "$folder/scheduler.json" \
  --threads "$threads"
# Told to end, its ranks end well; killed, mpirun would print a page about it.
python -c 'import sys, distributed; distributed.Client(scheduler_file=sys.argv[1]).shutdown()' \
  "$folder/scheduler.json"
